"""The Celery app of the real workers in the scaler's tests; it knows nothing of the scaler.

A task ends when the test creates a file, so that no test guesses how long something takes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from celery import Celery

app = Celery("worker_app")
app.conf.update(json.loads(os.environ.get("WORKER_SETTINGS", "{}")))
app.conf.broker_connection_retry_on_startup = True


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def wait_for(path: str) -> None:
    deadline = time.monotonic() + 120
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.05)


@app.task  # type: ignore[untyped-decorator]  # as above
def work(seconds: float, ledger: str) -> None:
    """Take so long, and say so: one byte a task."""
    time.sleep(seconds)
    with Path(ledger).open("ab") as file:
        file.write(b".")


@app.task(rate_limit="1/h")  # type: ignore[untyped-decorator]  # as above
def once_an_hour() -> None:
    """The second one is held by the worker, out of sight of `inspect`."""
