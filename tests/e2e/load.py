"""Owns a load that breathes, so that its pool grows and shrinks again and again, and what became of it.

The producer runs beside the sample application and is told over its stdin how many recorded tasks are to be
outstanding. Each fall of the Deployment's replicas is noted with the pods of that moment; the ledger tells
afterwards what they ran.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.e2e.stack import WORKERS, Stack

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


@dataclass(slots=True)
class Load:
    stack: Stack
    batch: str
    _producer: subprocess.Popen[str]
    report: dict[str, Any] = field(default_factory=dict)
    """The producer's last."""

    def order(self, outstanding: int, *, longest: float = 30.0) -> None:
        order = {"queue": QUEUE, "outstanding": outstanding, "batch": self.batch, "longest": longest}
        assert self._producer.stdin is not None
        self._producer.stdin.write(json.dumps(order) + "\n")
        self._producer.stdin.flush()

    def outstanding(self) -> int | None:
        """Published and not finished; None before the first report."""
        queues = self.report.get("queues", {})
        return queues[QUEUE]["outstanding"] if QUEUE in queues else None

    def follow(self) -> None:
        assert self._producer.stdout is not None
        for line in self._producer.stdout:
            self.report = json.loads(line)


@contextmanager
def load(stack: Stack, batch: str) -> Iterator[Load]:
    words = [
        *stack.cluster.kubectl_words(),
        f"--namespace={stack.namespace}",
        *("exec", "--stdin", "deployment/sample-app", "--", "python3", "-m", "sample_app.producer"),
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as producer:
        made = Load(stack, batch, producer)
        reader = threading.Thread(target=made.follow, daemon=True)
        reader.start()
        try:
            yield made
        finally:
            assert producer.stdin is not None
            producer.stdin.close()
            try:
                producer.wait(timeout=20)
            except subprocess.TimeoutExpired:
                producer.kill()
            reader.join(5)


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
