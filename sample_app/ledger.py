"""Owns the ledger: what producer and tasks themselves say they did, kept outside broker and result backend.

Each process appends JSON lines to a file of its own in the folder LEDGER_DIR: one for each task that the
broker has accepted, one when a task starts and one when it has finished. Each line is on the disk before
its writer goes on. So the ledger tells the truth about a task whose worker was killed, whatever the broker
remembers. Reading it, and telling lost from killed from repeated, is the end-to-end tests' part.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from pathlib import Path


def published(task_id: str) -> None:
    """To be called when the broker has accepted the message, and not before."""
    _append({"event": "published", "id": task_id})


def start(task_id: str, *, retries: int, redelivered: bool) -> str:
    """Returns the attempt: a name for this one run of the task, which no other run of it has."""
    attempt = uuid.uuid4().hex
    entry = {"id": task_id, "attempt": attempt, "retries": retries, "redelivered": redelivered}
    _append({"event": "start", **entry})
    return attempt


def finish(task_id: str, attempt: str) -> None:
    _append({"event": "finish", "id": task_id, "attempt": attempt})


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
