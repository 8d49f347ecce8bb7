"""Owns the ledger: what the tasks themselves say they did, kept outside broker and result backend.

Each process appends JSON lines to a file of its own in the folder LEDGER_DIR, one when a task
starts and one when it has finished, and each line is on the disk before the task goes on. So the
ledger tells the truth about a task whose worker was killed, whatever the broker remembers.
Reading it, and telling lost from killed from repeated, is the end-to-end tests' part.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path


def start(task_id: str, *, attempt: int, redelivered: bool) -> None:
    _append({"event": "start", "id": task_id, "attempt": attempt, "redelivered": redelivered})


def finish(task_id: str) -> None:
    _append({"event": "finish", "id": task_id})


def _append(entry: dict[str, object]) -> None:
    # A pod's host name is its name. One file per process: appends never interleave.
    pod = socket.gethostname()
    path = Path(os.environ["LEDGER_DIR"]) / f"{pod}-{os.getpid()}.jsonl"
    line = json.dumps({**entry, "pod": pod, "at": time.time()}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
