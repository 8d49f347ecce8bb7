"""Owns the page with the button, and POST /flood, which fills the queue faster than it drains.

It publishes and reports what it published; it never waits for a task and asks for no results.
A request that names a wrong number or task is refused before anything is published.
The tasks are in `sample_app.tasks`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from kombu.exceptions import OperationalError
from werkzeug.datastructures import MultiDict

from sample_app import tasks

MAX_TASKS = 100_000
"""In one request, over all batches. More would keep the request open for minutes."""

app = Flask(__name__)


class WrongFlood(ValueError):  # noqa: N818  # named by the fact
    """What is wrong with the request, for the person who sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """One request: `batches` times `tasks` messages of one task."""

    id: str
    task: str
    tasks: int
    batches: int
    ms: int

    @classmethod
    def of(cls, query: MultiDict[str, str]) -> Self:
        task = query.get("task", "add")
        if task not in ("add", "sleep", "cpu", "record"):
            raise WrongFlood(f"task must be add, sleep, cpu or record, not {task}")
        flood = cls(
            id=uuid.uuid4().hex[:8],
            task=task,
            tasks=_number(query, "tasks", 10_000),
            batches=_number(query, "batches", 3),
            ms=_number(query, "ms", 20),
        )
        if flood.tasks * flood.batches > MAX_TASKS:
            raise WrongFlood(f"tasks x batches must not be above {MAX_TASKS:,}")
        return flood

    def messages(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Task id and arguments of every message, batch by batch."""
        for batch in range(self.batches):
            for number in range(self.tasks):
                task_id = f"{self.id}-{batch}-{number}"
                yield task_id, self._arguments(task_id, number)

    def _arguments(self, task_id: str, number: int) -> tuple[Any, ...]:
        match self.task:
            case "add":
                return (number, number)
            case "sleep":
                return (self.ms / 1000,)
            case "cpu":
                return (self.ms,)
            case _:
                return (task_id, self.ms / 1000)


def _number(query: MultiDict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_TASKS:
        raise WrongFlood(f"{name} must be a whole number from 1 to {MAX_TASKS:,}")
    return int(text)


@app.get("/")
def page() -> ResponseReturnValue:
    return render_template("page.html")


@app.get("/healthz")
def healthz() -> ResponseReturnValue:
    """The process serves. What the broker does is another question: a restart would not mend it."""
    return "ok\n", {"Content-Type": "text/plain"}


@app.post("/flood")
def flood() -> ResponseReturnValue:
    try:
        wanted = Flood.of(request.args)
    except WrongFlood as wrong:
        return {"error": str(wrong)}, 400
    task = tasks.app.tasks[f"sample_app.tasks.{wanted.task}"]
    published = 0
    began, began_at = time.monotonic(), time.time()
    error = None
    try:
        # One producer for all: a connection per message costs more than the message.
        with tasks.app.producer_or_acquire() as producer:
            for task_id, arguments in wanted.messages():
                # With results wanted, the Redis backend subscribes to one channel per task.
                task.apply_async(arguments, task_id=task_id, producer=producer, ignore_result=True)
                published += 1
    except OperationalError as refused:
        error = f"the broker is away: {refused}"
    result = {
        "flood": wanted.id,
        "task": wanted.task,
        "published": published,
        "began": began_at,
        "seconds": round(time.monotonic() - began, 3),
    }
    return (result, 200) if error is None else ({**result, "error": error}, 503)
