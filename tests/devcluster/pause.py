"""Owns the pause image: one static program and nothing else.

Written as a Docker archive by hand, so that `up` needs no image builder. The other images are
`images`'s and `bases`'s.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

PAUSE_IMAGE = "localhost/celery-fleet-pause:1"

# Go's and the image specification's names for what Linux calls the machine.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_pause_archive(program: Path, archive: Path) -> None:
    layer = _tar({"pause": (program.read_bytes(), 0o755)})
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    manifest = json.dumps(
        [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    ).encode()
    archive.write_bytes(
        _tar(
            {
                "layer.tar": (layer, 0o644),
                "config.json": (config, 0o644),
                "manifest.json": (manifest, 0o644),
            }
        )
    )


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
