"""Owns a load that lasts: keeps as many recorded tasks outstanding in each queue as it is told to.

`python -m sample_app.producer` reads orders from stdin, one JSON object a line, and prints a report of the
same form twice a second; it ends when stdin does. What is outstanding it takes from the ledger: published
and not finished, wherever the task is. Durations are log-uniform: as many tasks take 0.1 to 1 s as 1 to 10.
A broker that is away is tried again. It never waits for a task and asks for no results.

The end-to-end tests run it in a pod of its own, which no scaler and no `pulumi destroy` knows.
"""

from __future__ import annotations

import json
import math
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError

from sample_app import ledger, tasks

TURN_SECONDS = 0.1
REPORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one queue is to have from now on, until another order for it."""

    queue: str
    outstanding: int
    batch: str
    """First part of the tasks' ids."""
    shortest: float = 0.1
    longest: float = 30.0

    def duration(self) -> float:
        return math.exp(random.uniform(math.log(self.shortest), math.log(self.longest)))  # noqa: S311


@dataclass(slots=True)
class Book:
    """The ledger as read so far; each line is read once."""

    folder: Path
    offsets: dict[Path, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    running: dict[str, dict[str, str]] = field(default_factory=dict)
    """Task by attempt, by pod."""

    def read(self) -> None:
        for path in self.folder.glob("*.jsonl"):
            with path.open("rb") as lines:
                lines.seek(self.offsets.get(path, 0))
                text = lines.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.offsets[path] = self.offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._enter(json.loads(line))

    def _enter(self, entry: dict[str, Any]) -> None:
        match entry["event"]:
            case "start":
                self.running.setdefault(entry["pod"], {})[entry["attempt"]] = entry["id"]
            case "finish":
                self.finished.add(entry["id"])
                self.running.get(entry["pod"], {}).pop(entry["attempt"], None)


class Producer:
    """Follows the orders, as far as `publish` lets it. It keeps no clock and starts no thread."""

    def __init__(self, publish: Callable[[str, str, float], bool], book: Book) -> None:
        self._publish = publish
        self._book = book
        self._orders: dict[str, Order] = {}
        self._open: dict[str, set[str]] = {}
        self._published: Counter[str] = Counter()
        self._number = 0

    def follow(self, order: Order) -> None:
        self._orders[order.queue] = order

    def turn(self) -> None:
        """Publish what is missing; the rest of a queue waits for the next turn where one is refused."""
        self._book.read()
        for order in self._orders.values():
            unfinished = self._open.setdefault(order.queue, set())
            unfinished -= self._book.finished
            while len(unfinished) < order.outstanding:
                self._number += 1
                task_id = f"{order.batch}-{order.queue}-{self._number}"
                if not self._publish(order.queue, task_id, order.duration()):
                    break
                unfinished.add(task_id)
                self._published[order.queue] += 1

    def report(self) -> dict[str, Any]:
        """For each queue what was published and is outstanding; for each pod what it runs."""
        return {
            "queues": {
                name: {"published": self._published[name], "outstanding": len(unfinished)}
                for name, unfinished in self._open.items()
            },
            "running": {pod: len(attempts) for pod, attempts in self._book.running.items() if attempts},
        }


def publish(queue_name: str, task_id: str, seconds: float, *, countdown: float | None = None) -> bool:
    try:
        tasks.record.apply_async(
            (task_id, seconds), task_id=task_id, queue=queue_name, ignore_result=True, countdown=countdown
        )
    except OperationalError:
        return False
    ledger.published(task_id)
    return True


def main(lines: Iterable[str]) -> int:
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            orders.put(Order(**json.loads(line)))
        orders.put(None)

    threading.Thread(target=read, daemon=True).start()
    producer = Producer(publish, Book(Path(os.environ["LEDGER_DIR"])))
    reported = 0.0
    while True:
        while not orders.empty():
            order = orders.get()
            if order is None:
                return 0
            producer.follow(order)
        producer.turn()
        if time.monotonic() >= reported + REPORT_SECONDS:
            reported = time.monotonic()
            sys.stdout.write(json.dumps(producer.report()) + "\n")
            sys.stdout.flush()
        time.sleep(TURN_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.stdin))
