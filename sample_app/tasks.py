"""Owns the tasks that the sample application floods its queue with.

Broker and result backend come from Celery's own variables, CELERY_BROKER_URL and
CELERY_RESULT_BACKEND: an application that runs in a fleet needs no setting of ours. Messages are
JSON, Celery's default, and nothing else is accepted.
What `record` leaves behind is described in `sample_app.ledger`; the page that publishes these
tasks is `sample_app.app`, and `sample_app.producer` keeps a number of them outstanding.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from sample_app import ledger

app = Celery("sample_app")


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def add(x: int, y: int) -> int:
    return x + y


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def sleep(seconds: float) -> None:
    """Hold a slot without using the processor, as a task that waits for another service does."""
    time.sleep(seconds)


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def cpu(ms: int) -> int:
    """Keep a processor busy for that many milliseconds of its own time; return the rounds it took."""
    end = time.process_time() + ms / 1000
    rounds = 0
    while time.process_time() < end:
        rounds += 1
    return rounds


@app.task(bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def record(self: Any, id: str, seconds: float) -> None:  # noqa: A002  # the ledger's word
    """Like `sleep`, with an entry in the ledger before and after."""
    delivery = self.request.delivery_info or {}
    redelivered = bool(delivery.get("redelivered"))
    attempt = ledger.start(id, retries=self.request.retries, redelivered=redelivered)
    time.sleep(seconds)
    ledger.finish(id, attempt)
