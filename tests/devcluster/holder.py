"""Owns the rule that a machine runs one devcluster: addresses, ports and the socket are fixed.

The holder is written beside the socket, in the volatile folder, together with the boot it was
written in: where /run is a plain folder, what lies there after a reboot is of the past.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .commands import DevclusterError
from .places import State
from .processes import boot


def claim(state: State) -> None:
    """Make this state folder the machine's devcluster, or say whose machine it is."""
    other = held_by_another(state)
    if other is not None:
        raise DevclusterError(
            f"Another devcluster, whose state is in {other}, runs on this machine. "
            f"Stop it first: `CELERY_FLEET_CACHE={other.parent} python -m tests.devcluster down`"
        )
    if _lines(state)[0] not in ("", boot()):
        shutil.rmtree(state.volatile)
    state.volatile.mkdir(parents=True, exist_ok=True)
    _marker(state).write_text(f"{boot()}\n{state.folder}\n")


def held_by_another(state: State) -> Path | None:
    written, folder = _lines(state)
    is_current = written == boot()
    return Path(folder) if is_current and Path(folder) != state.folder else None


def _lines(state: State) -> tuple[str, str]:
    marker = _marker(state)
    lines = marker.read_text().splitlines() if marker.exists() else []
    return (lines[0], lines[1]) if len(lines) == 2 else ("", "")


def _marker(state: State) -> Path:
    return state.volatile / "holder"
