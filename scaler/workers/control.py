"""Asks Celery workers what they hold, and tells them to stop and to start consuming.

It owns what the answers of Celery's remote control mean, and which of them can be relied on. It decides
nothing: `scaler.pool.drain` says who stops, and reads `HeldTasks` for when a worker has nothing left. A
worker that does not answer in time is absent from every result: unknown, never idle. Nobody answers where the
app has `worker_enable_remote_control=False`, another `control_exchange`, or a `task_serializer` that is not
JSON; a worker of the solo pool answers between tasks only, and one that was sent SIGTERM no more.

kombu is in `scaler.workers.mailbox`, what workers say unasked in `scaler.workers.heartbeats`. Celery's
behaviour by version is measured in docs/decisions/0010-celery-versions.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from scaler.workers.answers import HeldTasks
from scaler.workers.link import Command, ControlUnavailable, Link
from scaler.workers.mailbox import Mailbox

__all__ = ["ControlUnavailable", "Link", "WorkerControl"]

ANSWER_SECONDS: Final = 1.0
"""How long workers may take to answer. They need milliseconds, unless their main process is blocked."""
STEER_SECONDS: Final = 2.5
"""How long the answer may take that workers did as told: gevent workers look up every 2 s only."""
IDLE_SECONDS: Final = 45.0
"""Time without a call after which the connection is given up: RabbitMQ expects a sign of life each minute."""
CALL_SECONDS: Final = 6.0
"""How long any call may take, with a broker that hangs and with the calls before it."""
LONG_LIST: Final = 1_000
LONG_LIST_SECONDS: Final = 60.0
"""A worker with more than LONG_LIST tasks scheduled lists them only so often: 10,000 are 3.6 MB, and
200 ms in which its main process does nothing else."""

_T = TypeVar("_T")
_Wanted = Mapping[str, frozenset[str]]
"""Node to the queues that it is told to leave or to take up."""


class WorkerControl:
    """Remote control for one event loop; the calls are made one after the other, in a thread.

    All calls raise ControlUnavailable where the broker does not take them.
    """

    def __init__(self, link: Link, *, clock: Callable[[], float] = time.time) -> None:
        self._mailbox = Mailbox(link)
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker-control")
        self._long_lists: dict[str, _Scheduled] = {}
        self._idle: asyncio.TimerHandle | None = None

    async def tasks(self, nodes: Collection[str]) -> Mapping[str, HeldTasks]:
        """What each of these workers holds, in one round trip."""
        return await self._call(lambda: self._tasks(frozenset(nodes)))

    async def consumed(self, nodes: Collection[str]) -> Mapping[str, frozenset[str]]:
        """The queues that each of these workers says it consumes from."""
        rows = await self._call(lambda: self._queues(frozenset(nodes), ANSWER_SECONDS))
        return {node: frozenset(row.name for row in rows[node]) for node in rows}

    async def stop_consuming(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]:
        """Have each of these workers stop taking tasks from its queues; those that say they take none.

        To be called on every tick for as long as they are to stay stopped: a worker that restarted
        consumes again. Ask for the `tasks` of those in the result, and only afterwards. One that still
        consumes from a queue that is not named here is not among them: that queue is left alone, and
        brings work. A message that the BRPOP under way takes within the next second is not carried out:
        kombu puts it back, also where SIGTERM comes in between.
        """
        return await self._call(lambda: self._steer(_sets(queues), stop=True))

    async def resume(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]:
        """Have each of these workers consume from all of its queues; those that say they do.

        To be called again after the broker was away: before Celery 5.7 a worker forgets on a reconnect
        that it had been told to consume again (celery/celery#7733, #10352). A worker that consumes from
        all of them is asked and told nothing.
        """
        return await self._call(lambda: self._steer(_sets(queues), stop=False))

    async def close(self) -> None:
        """Leave nothing of ours in the broker, within a second."""
        self._used()
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._mailbox.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait({closing}, timeout=1.0)

    def _used(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rest(self) -> None:
        self._thread.submit(self._mailbox.close)

    async def _call(self, act: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        self._used()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await loop.run_in_executor(self._thread, act)
            self._idle = loop.call_later(IDLE_SECONDS, self._rest)
            return result
        except TimeoutError:
            sentence = f"workers could not be asked within {CALL_SECONDS:g} s: the broker hangs"
            raise ControlUnavailable(sentence) from None

    def _tasks(self, nodes: frozenset[str]) -> dict[str, HeldTasks]:
        at = self._clock()
        known = {node: found for node in nodes if (found := self._long_lists.get(node)) and found.good(at)}
        # Upstream first: a task moves from scheduled to reserved to active. Asked for the other way
        # round, one that moves meanwhile would be in neither answer.
        scheduled, reserved, active = self._mailbox.ask(
            [
                Command("scheduled", nodes - known.keys()),
                Command("reserved", nodes),
                Command("active", nodes, {"safe": True}),
            ],
            ANSWER_SECONDS,
        )
        held: dict[str, HeldTasks] = {}
        for node in nodes:
            self._long_lists.pop(node, None)
            later = known.get(node) or _scheduled(scheduled.get(node), at)
            rows, more = _tasks_in(active.get(node)), _tasks_in(reserved.get(node))
            if later is None or rows is None or more is None:
                continue
            if later.count > LONG_LIST:
                self._long_lists[node] = later
            held[node] = HeldTasks(
                running=frozenset(rows),
                acknowledged=frozenset(name for name in rows if rows[name]),
                reserved=frozenset(more.keys() - rows.keys()),
                scheduled=later.count,
                next_due=later.next_due,
            )
        return held

    def _queues(self, nodes: frozenset[str], seconds: float) -> dict[str, list[_QueueRow]]:
        (answers,) = self._mailbox.ask([Command("active_queues", nodes)], seconds)
        found = {node: _queue_rows(answer) for node, answer in answers.items()}
        return {node: rows for node, rows in found.items() if rows is not None}

    def _steer(self, queues: _Wanted, *, stop: bool) -> frozenset[str]:
        """Tell those that do otherwise, and ask until they do as told or the time is over."""
        deadline = time.monotonic() + STEER_SECONDS
        rows = self._queues(frozenset(queues), ANSWER_SECONDS)
        # A reply `ok` to the command only says that the worker will do it; `active_queues`, that it did.
        self._mailbox.tell(_cancel_commands(rows, queues) if stop else _add_commands(rows, queues))
        done: set[str] = set()
        pause = 0.01
        while True:
            done |= {
                node
                for node in rows
                if (not rows[node] if stop else not _missing(rows[node], queues.get(node, frozenset())))
            }
            left = frozenset(node for node in rows if node not in done)
            # One that consumes from foreign queues only will not change however long it is asked.
            if stop and not any(_cancel_commands({node: rows[node]}, queues) for node in left):
                return frozenset(done)
            if not left or time.monotonic() + pause >= deadline:
                return frozenset(done)
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
            rows = self._queues(left, max(0.1, deadline - time.monotonic()))


@dataclass(frozen=True, slots=True)
class _Scheduled:
    count: int
    next_due: float | None
    read_at: float

    def good(self, at: float) -> bool:
        soon = at + ANSWER_SECONDS + 1
        return at < self.read_at + LONG_LIST_SECONDS and self.next_due is not None and self.next_due > soon


@dataclass(frozen=True, slots=True)
class _QueueRow:
    name: str
    alias: str | None
    """Another name for it in the app: that of a `Broadcast` queue, whose name is random."""


def _tasks_in(answer: object) -> dict[str, bool] | None:
    """Task id to whether it is acknowledged; None where the answer is none."""
    try:
        return {str(row["id"]): bool(row["acknowledged"]) for row in _rows(answer)}
    except (KeyError, TypeError):
        return None


def _scheduled(answer: object, at: float) -> _Scheduled | None:
    try:
        etas = [_seconds(row["eta"], at) for row in _rows(answer)]
    except (KeyError, TypeError):
        return None
    return _Scheduled(len(etas), min(etas, default=None), at)


def _seconds(eta: object, at: float) -> float:
    """An ETA that cannot be told is due."""
    try:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else None
    except ValueError:
        return at
    return at if moment is None or moment.tzinfo is None else moment.timestamp()


def _queue_rows(answer: object) -> list[_QueueRow] | None:
    try:
        return [_QueueRow(str(row["name"]), row.get("alias")) for row in _rows(answer)]
    except (KeyError, TypeError):
        return None


def _rows(answer: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise TypeError(answer)
    return answer


def _sets(queues: Mapping[str, Collection[str]]) -> _Wanted:
    return {node: frozenset(names) for node, names in queues.items()}


def _missing(rows: Sequence[_QueueRow], queues: frozenset[str]) -> frozenset[str]:
    return queues - {row.name for row in rows} - {row.alias for row in rows if row.alias}


def _cancel_commands(rows: Mapping[str, Sequence[_QueueRow]], queues: _Wanted) -> list[Command]:
    consuming: dict[str, set[str]] = {}
    for node, each in rows.items():
        for row in each:
            if {row.name, row.alias} & queues.get(node, frozenset()):
                consuming.setdefault(row.name, set()).add(node)
    return _commands("cancel_consumer", consuming)


def _add_commands(rows: Mapping[str, Sequence[_QueueRow]], queues: _Wanted) -> list[Command]:
    missing: dict[str, set[str]] = {}
    for node in rows:
        for name in _missing(rows[node], queues.get(node, frozenset())):
            missing.setdefault(name, set()).add(node)
    return _commands("add_consumer", missing)


def _commands(method: str, nodes: Mapping[str, set[str]]) -> list[Command]:
    return [Command(method, frozenset(nodes[name]), {"queue": name}) for name in sorted(nodes)]
