"""Owns a load that breathes, so that its pool grows and shrinks again and again, and what became of it.

The producer runs beside the sample application and is told how many recorded tasks are to be outstanding.
Each fall of the Deployment's replicas is noted with the pods of that moment; the ledger tells afterwards what
they ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from tests.e2e.stack import LEDGER, WORKERS, Stack

QUEUE = "celery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A scale-in, as it was first seen."""

    at: float
    by: int
    pods: tuple[str, ...]
    """Those that were not leaving a moment before, the youngest first: a ReplicaSet that knows of no deletion
    cost takes ready pods of one node in this order."""

    def would_have_killed(self, running: dict[str, set[str]]) -> bool:
        """Whether a pod that the ReplicaSet's own order takes ran a task."""
        return any(running.get(pod) for pod in self.pods[: self.by])


ORDERS, REPORTS, PID = f"{LEDGER}/orders", f"{LEDGER}/reports", f"{LEDGER}/orders.pid"


@dataclass(frozen=True, slots=True)
class Load:
    stack: Stack
    batch: str

    def order(self, outstanding: int, *, longest: float = 30.0) -> None:
        order = {"queue": QUEUE, "outstanding": outstanding, "batch": self.batch, "longest": longest}
        in_sample_app(self.stack, f"cat >> {ORDERS}", stdin=json.dumps(order) + "\n")

    def outstanding(self) -> int | None:
        """Published and not finished; None before the first report."""
        report = in_sample_app(self.stack, f"tail -n 1 {REPORTS}")
        queues = json.loads(report)["queues"] if report else {}
        return queues[QUEUE]["outstanding"] if QUEUE in queues else None


@contextmanager
def load(stack: Stack, batch: str) -> Iterator[Load]:
    """Orders and reports go through files: one stream of `kubectl exec` for minutes was seen to stall."""
    follow = f"echo $$ > {PID}; exec tail -f -n +1 {ORDERS}"
    produce = f"sh -c '{follow}' | python3 -m sample_app.producer > {REPORTS}"
    in_sample_app(
        stack, f": > {ORDERS}; : > {REPORTS}; ({produce}) < /dev/null > {LEDGER}/producer.log 2>&1 &"
    )
    try:
        yield Load(stack, batch)
    finally:
        in_sample_app(stack, f"kill $(cat {PID})")


def in_sample_app(stack: Stack, script: str, stdin: str | None = None) -> str:
    words = ("exec", "--stdin", "deployment/sample-app", "--", "sh", "-c", script)
    return stack.kubectl(*words, stdin=stdin or "")


class Watcher:
    """Notes every fall of the workers' replicas; asked at least twice a second it misses none."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._replicas: int | None = None
        self._pods: tuple[str, ...] = ()
        self.falls: list[Fall] = []

    def look(self, at: float) -> None:
        replicas = int(self._stack.get("deployment", WORKERS)["spec"]["replicas"])
        if self._replicas is not None and replicas < self._replicas:
            self.falls.append(Fall(at=at, by=self._replicas - replicas, pods=self._pods))
        self._replicas = replicas
        self._pods = self._youngest_first()

    def _youngest_first(self) -> tuple[str, ...]:
        pods = self._stack.get("pods", "--selector=app.kubernetes.io/component=worker")["items"]
        living = [pod["metadata"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        living.sort(key=lambda metadata: datetime.fromisoformat(metadata["creationTimestamp"]), reverse=True)
        return tuple(metadata["name"] for metadata in living)

    @property
    def removed(self) -> int:
        return sum(fall.by for fall in self.falls)
