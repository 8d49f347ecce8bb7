"""Owns the reading of devcluster's audit log: what the API server itself says it was asked, and when.

One JSON line per finished request, written in order; the log is cut at 100 MB and starts anew. A
cluster that is not devcluster keeps its audit log elsewhere or has none: no figure is made up then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.devcluster import places


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    code: int
    finished: float
    """Seconds since the epoch; for a write that was accepted, when it was."""


class AuditLog:
    """From the moment it is made; each `read` returns what has come since the one before."""

    def __init__(self) -> None:
        self._path: Path = places.state().log / "audit.log"
        if not self._path.exists():
            raise SystemExit("This is measured by the API server's audit log: python3 -m tests.devcluster up")
        self._offset = self._path.stat().st_size

    def read(self) -> Iterator[Request]:
        if self._path.stat().st_size < self._offset:
            self._offset = 0
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return  # the API server is in the middle of it
                self._offset += len(line)
                entry = json.loads(line)
                # A watch is logged a second time, when it starts.
                if entry["stage"] == "ResponseComplete":
                    yield _request(entry)


def _request(entry: dict[str, Any]) -> Request:
    about = entry.get("objectRef", {})
    return Request(
        user=entry["user"].get("username", ""),
        verb=entry["verb"],
        resource=about.get("resource", ""),
        subresource=about.get("subresource", ""),
        namespace=about.get("namespace", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        finished=datetime.fromisoformat(entry["stageTimestamp"]).timestamp(),
    )
