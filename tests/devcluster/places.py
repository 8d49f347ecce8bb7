"""Owns where things lie: the project's cache folder and the cluster's state folder.

What can be built again lies under the cache in a folder whose name carries a hash of everything
it was built from, so a change of input builds anew and nothing is ever rebuilt in place. What
belongs to one running cluster lies in `devcluster/`, which `down` removes as a whole.
The only file that reads `CELERY_FLEET_CACHE`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent


def cache() -> Path:
    chosen = os.environ.get("CELERY_FLEET_CACHE")
    return Path(chosen).resolve() if chosen else Path.home() / ".cache" / "celery-fleet"


def key_of(*inputs: str | Path) -> str:
    """12 hex digits that change when any text, or the content of any file or folder, changes."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            parts = [("text", item.encode())]
        elif item.is_dir():
            files = sorted(path for path in item.rglob("*") if path.is_file())
            parts = [(str(path.relative_to(item)), path.read_bytes()) for path in files]
        else:
            parts = [(item.name, item.read_bytes())]
        for name, content in parts:
            # Lengths first: moving a byte from one input to the next must change the key.
            digest.update(f"{len(name)}:{name}:{len(content)}:".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by `make` if it does not exist; a failed `make` leaves nothing behind."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.name):
        if folder.exists():
            return folder
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        unfinished.chmod(0o755)
        try:
            make(unfinished)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One holder per name and cache folder; the kernel lets go when the holder dies."""
    folder = cache() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_if_changed(path: Path, content: str, *, mode: int = 0o644) -> None:
    if path.exists() and path.read_text() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.touch(mode=mode)
    unfinished.write_text(content)
    unfinished.rename(path)


@dataclass(frozen=True, slots=True)
class State:
    """The paths of one cluster. `volatile` is on a tmpfs: containerd expects its runtime state
    to vanish with the machine, and socket paths must stay under 108 characters."""

    folder: Path
    volatile: Path

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def pids(self) -> Path:
        return self.folder / "pids"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def cni(self) -> Path:
        return self.folder / "cni"

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    @property
    def containerd_socket(self) -> Path:
        return self.volatile / "containerd.sock"


def state() -> State:
    return State(folder=cache() / "devcluster", volatile=Path("/run/celery-fleet-devcluster"))
