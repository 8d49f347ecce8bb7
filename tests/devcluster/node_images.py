"""Owns what images the node has: containerd's `k8s.io` namespace, which the kubelet looks into.

It takes Docker archives; who makes them is `images` (for everybody) and `pause` (for the pods'
own holder process).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .commands import run
from .pause import PAUSE_IMAGE, write_pause_archive
from .places import State, key_of


def import_archive(state: State, archive: Path) -> None:
    """All images of a Docker archive, under the names that it gives them."""
    run([*_ctr(state), "images", "import", archive])


def target_digests(state: State) -> dict[str, str]:
    """Manifest digest by name. containerd names each image also `sha256:<image id>`."""
    lines = run([*_ctr(state), "images", "list"]).splitlines()[1:]
    columns = [line.split() for line in lines]
    return {words[0]: words[2] for words in columns if len(words) > 2}


def has_image(state: State, name: str, image_id: str) -> bool:
    digests = target_digests(state)
    return name in digests and digests[name] == digests.get(f"sha256:{image_id}")


def ensure_pause(state: State, program: Path) -> None:
    marker = state.folder / "containerd" / "pause-imported"
    key = key_of(program)
    if marker.exists() and marker.read_text() == key and PAUSE_IMAGE in target_digests(state):
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "pause.tar"
        write_pause_archive(program, archive)
        import_archive(state, archive)
    marker.write_text(key)


def _ctr(state: State) -> list[str]:
    return ["ctr", "--address", str(state.containerd_socket), "--namespace", "k8s.io"]
