"""A Secret and a ConfigMap as the kubelet mounts them: what a server's start script reads and watches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Mounted:
    folder: Path
    given: int = 0

    def give(self, **files: str) -> None:
        """A folder of its own for each state, and one link that changes at once. `_` is `-` in names."""
        self.given += 1
        state = self.folder / f"..{self.given}"
        state.mkdir(parents=True)
        for name, text in files.items():
            (state / name.replace("_", "-")).write_text(text)
        link = self.folder / "..new"
        link.symlink_to(state.name)
        link.rename(self.folder / "..data")
        for file in state.iterdir():
            path = self.folder / file.name
            if not path.is_symlink():
                path.symlink_to(f"..data/{path.name}")
