"""Speaks with the workers of all pools in one tick, in as few calls as there are kinds of question.

It owns the order (first those that leave are told to stop, only then all are asked what they hold), how
long a tick waits for it, and when workers are looked through for ones that consume nothing though nobody
wants that: after the start of a scaler, and after the broker was away. It chooses nobody: `scaler.pool.pool`
says whom to ask and why.

A failure here leaves every answer out, which is unknown. The calls themselves are in
`scaler.workers.control`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from scaler.pool.crew import node_of
from scaler.pool.sight import Questions
from scaler.workers.answers import Answers, Heard, HeldTasks
from scaler.workers.link import ControlUnavailable

ASK_SECONDS: Final = 4.5
"""How long a tick waits for the workers in all; they need 1 s where one of them is silent."""
LOOK_AFTER_SECONDS: Final = (2.0, 10.0, 40.0, 160.0)
"""Times after a disturbance at which workers are looked through: Celery takes up to 32 s to reconnect."""


class Control(Protocol):
    """Each raises ControlUnavailable."""

    async def tasks(self, nodes: Collection[str]) -> Mapping[str, HeldTasks]: ...
    async def consumed(self, nodes: Collection[str]) -> Mapping[str, frozenset[str]]: ...
    async def stop_consuming(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]: ...
    async def resume(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]: ...


class Ear(Protocol):
    def heard(self) -> Heard:
        """The last word of every worker."""


class Journal(Protocol):
    def unheard(self, doing: str, failure: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Returning:
    """Who of a pool is to consume from its queues."""

    queues: Sequence[str]
    taken_back: frozenset[str]
    """Pods that had been told to stop."""
    staying: frozenset[str]
    """Pods that never were, as far as is known."""


class RollCall:
    def __init__(self, control: Control, journal: Journal) -> None:
        self._control = control
        self._journal = journal
        self._looks: tuple[float, ...] = ()

    def disturbed(self, at: float) -> None:
        """Workers may have forgotten what they were told: look through them a few times from now on."""
        self._looks = tuple(at + seconds for seconds in LOOK_AFTER_SECONDS)

    async def ask(self, questions: Mapping[str, Questions]) -> Mapping[str, Answers]:
        """The answers by pool; none where the broker takes no questions."""
        stop = {node_of(pod): each.queues for each in questions.values() for pod in each.stop}
        ask = {node_of(pod) for each in questions.values() for pod in each.ask}
        if not stop and not ask:
            return {}
        try:
            async with asyncio.timeout(ASK_SECONDS):
                stopped = await self._control.stop_consuming(stop) if stop else frozenset()
                tasks = await self._control.tasks(ask) if ask else {}
        except ControlUnavailable as failure:
            self._journal.unheard("asking workers", str(failure))
            return {}
        except TimeoutError:
            self._journal.unheard("asking workers", f"it took longer than {ASK_SECONDS:g} s")
            return {}
        return {
            pool: Answers(
                asked=each.ask,
                stopped=frozenset(pod for pod in each.stop if node_of(pod) in stopped),
                tasks={pod: tasks[node_of(pod)] for pod in each.ask if node_of(pod) in tasks},
            )
            for pool, each in questions.items()
        }

    async def bring_back(self, pools: Sequence[Returning], at: float) -> frozenset[str]:
        """Have these consume again: the pods taken back that say they do."""
        queues = {node_of(pod): each.queues for each in pools for pod in each.taken_back}
        taken_back = {node_of(pod): pod for each in pools for pod in each.taken_back}
        try:
            async with asyncio.timeout(ASK_SECONDS):
                if self._looks and at >= self._looks[0]:
                    self._looks = tuple(look for look in self._looks if look > at)
                    queues |= await self._deaf(pools)
                done = await self._control.resume(queues) if queues else frozenset()
        except ControlUnavailable as failure:
            self._journal.unheard("taking workers back", str(failure))
            return frozenset()
        except TimeoutError:
            self._journal.unheard("taking workers back", f"it took longer than {ASK_SECONDS:g} s")
            return frozenset()
        return frozenset(pod for node, pod in taken_back.items() if node in done)

    async def _deaf(self, pools: Sequence[Returning]) -> dict[str, Sequence[str]]:
        """Workers that consume from nothing at all. One that does from something is as its app wants it."""
        queues = {node_of(pod): each.queues for each in pools for pod in each.staying}
        consumed = await self._control.consumed(queues.keys()) if queues else {}
        return {node: queues[node] for node, names in consumed.items() if not names}
