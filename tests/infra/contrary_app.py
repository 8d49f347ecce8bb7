"""A Celery app that configures the opposite of what the tests' stacks ask of its workers."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("contrary")
app.conf.update(
    task_acks_late=False,
    task_ignore_result=True,
    accept_content=["json", "pickle"],
    worker_prefetch_multiplier=7,
    worker_soft_shutdown_timeout=99,
    broker_transport_options={"visibility_timeout": 99, "socket_timeout": 33},
    broker_connection_retry_on_startup=True,
)


@app.task(bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def nap(self, seconds: float, ledger: str) -> None:  # type: ignore[no-untyped-def]  # bound task
    with Path(ledger).open("a") as lines:
        lines.write(f"start {'late' if self.acks_late else 'early'}\n")
    time.sleep(seconds)
    with Path(ledger).open("a") as lines:
        lines.write("finish\n")


if "LOOK_UP_TASKS" in os.environ:
    nap.s(1, "/dev/null")
