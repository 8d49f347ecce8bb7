"""Owns KEDA as built here: its operator and its metrics adapter in one image, and where its manifests lie.

Both programs come from the Go module that kedacore/go.mod pins, through the Go module proxy, and lie in
devcluster's cache. The manifests are read where Go unpacked the module; nothing of them is in this tree.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.devcluster import images
from tests.devcluster.commands import run
from tests.devcluster.packages import go_program
from tests.devcluster.places import cache, key_of
from tests.devcluster.toolchain import GoProgram, built

HERE: Final = Path(__file__).resolve().parent
MODULE: Final = "github.com/kedacore/keda/v2"
FETCH_SECONDS: Final = 300
PROGRAMS: Final = tuple(
    GoProgram(
        root=HERE,
        folder="kedacore",
        names=(name,),
        usual="7 min for the first of KEDA's two on two cores, 1 min for the other",
        package=f"{MODULE}/cmd/{folder}",
    )
    for name, folder in (("keda", "operator"), ("keda-adapter", "adapter"))
)
"""By the names that KEDA's own manifests start."""


def version() -> str:
    pinned = re.search(rf"{re.escape(MODULE)} v(\S+)", (HERE / "kedacore" / "go.mod").read_text())
    assert pinned, "kedacore/go.mod requires KEDA"
    return pinned[1]


def module() -> Path:
    """KEDA's sources, unpacked by Go; fetched where Go's cache was cleared since the programs were built."""
    words: list[str | Path] = [go_program(), "mod", "download", "-json", MODULE]
    return Path(json.loads(run(words, cwd=HERE / "kedacore", timeout_seconds=FETCH_SECONDS))["Dir"])


def image() -> str:
    """The name of an image with both programs, built if they are not; not loaded yet."""
    programs = [built(program) / program.names[0] for program in PROGRAMS]
    name = f"localhost/bench-keda:{key_of(HERE / 'Dockerfile', *(str(path) for path in programs))}"
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        for program in programs:
            shutil.copy2(program, folder)
        images.build(Path(folder), name, dockerfile=HERE / "Dockerfile")
    return name
