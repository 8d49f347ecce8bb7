"""Owns the two loads: what is published to a stack, when its run is over, and the figures of it.

A flood of short tasks, which need the machine, so the systems take turns; and few long tasks, which sleep, so
the systems have theirs at the same time. Either way each has its own stack. A run that is not over by its
deadline ends there with a diagnosis, and the figures that it lacks stay empty.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.keda.backlog import Backlog
from bench.keda.figures import Figures, figures
from bench.keda.systems import KEDA, LIST, System
from demo.commands import DemoError, say
from demo.diagnosis import diagnosis
from demo.flood import publish
from tests.e2e.course import Course
from tests.e2e.ledger import judge, published_in, running_at
from tests.e2e.stack import Stack

HPA_SYNC_SECONDS: Final = 15
DONE_SECONDS: Final = 420
"""From the flood's last publish to its last task; 100 s on a quiet machine."""
BACK_SECONDS: Final = 480
"""From the last flood's last task until all are at their fewest; KEDA's window alone is 300 s."""
LONG_SECONDS: Final = 900
"""From the first long task until all are at their fewest; 450 s on a quiet machine."""
FLOOD_TASKS, FLOOD_BATCHES, FLOOD_MS = 10_000, 3, 20
LONG_TASKS, LONG_SHORTEST, LONG_LONGEST = 24, 40, 90

ALL: Final[Mapping[str, object]] = {"flower": "false", "networkPolicies": "false"}
"""Without the network policies, which let nobody but the stack's own pods speak to its broker."""
FLOOD: Final[Mapping[str, object]] = {
    **ALL,
    "minReplicas": 2,
    "maxReplicas": 4,
    "concurrency": 2,
    "averageValue": 100,
}
LONG: Final[Mapping[str, object]] = {
    **ALL,
    "sampleApp": "false",
    "minReplicas": 1,
    "maxReplicas": 8,
    "concurrency": 1,
    "averageValue": 1,
    "acksLate": "true",
    "prefetchMultiplier": 1,
    "gracePeriodSeconds": 30,
    "longestTaskSeconds": LONG_LONGEST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A stack with its system in charge, and all that is seen of it."""

    system: System
    stack: Stack
    course: Course
    backlog: Backlog

    def is_back(self) -> bool:
        now = self.course.now
        return now.replicas == now.pods == self.stack.least

    def is_over(self) -> bool:
        """Nothing queued, nothing running, as many pods as the fewest. Not: nothing held. What a killed
        worker held stays so for an hour."""
        if self.backlog.now.queued or not self.is_back():
            return False
        return not running_at(self.stack.ledger(), time.time()).keys() & set(self.course.now.living)

    def figures(self, began: float, done: float | None, others: Mapping[str, float]) -> Figures:
        return figures(
            self.course.moments,
            began=began,
            done=done,
            least=self.stack.least,
            most=int(self.stack.settings["maxReplicas"]),
            others=dict(others),
        )


Ends = list[tuple[Watched, Callable[[], bool]]]


def floods(runs: Sequence[Watched], megabytes: Callable[[Watched], float]) -> dict[str, Figures]:
    """One after the other. While the next one works, those before it wait for their windows and shrink; KEDA
    with its defaults, which waits the longest by far, is the first."""
    spans = [(run, *_flooded(run)) for run in sorted(runs, key=lambda run: run.system is not KEDA)]
    _until([(run, run.is_back) for run in runs], "back at the fewest pods", BACK_SECONDS)
    return {run.system.name: run.figures(began, done, _memory(megabytes, run)) for run, began, done in spans}


def _flooded(run: Watched) -> tuple[float, float | None]:
    """When the first task was published, and when the last one was done."""
    # At any moment of KEDA's and the HPA's turns, which last longer than ours.
    time.sleep(random.uniform(0, HPA_SYNC_SECONDS))
    query = f"tasks={FLOOD_TASKS}&batches={FLOOD_BATCHES}&task=sleep&ms={FLOOD_MS}"
    say(
        f"{run.system.name}: a flood of {FLOOD_BATCHES} x {FLOOD_TASKS:,} tasks of {FLOOD_MS} ms: about 2 min"
    )
    answer = publish(run.stack.cluster, run.stack.namespace, query)
    if answer.get("published") != FLOOD_TASKS * FLOOD_BATCHES:
        raise DemoError(f"the flood was not published in full: {answer}")
    published = time.time()
    _until([(run, lambda: run.backlog.empty_at(published) is not None)], "all tasks done", DONE_SECONDS)
    return float(str(answer["began"])), run.backlog.empty_at(published)


def _memory(megabytes: Callable[[Watched], float], run: Watched) -> dict[str, float]:
    """Nothing where it cannot be read: the rest of the run is still worth telling."""
    try:
        return {"megabytes": megabytes(run)}
    except DemoError as trouble:
        say(f"{run.system.name}: memory was not read: {trouble}")
        return {}


def long_tasks(runs: Sequence[Watched]) -> dict[str, Figures]:
    say(f"{LONG_TASKS} tasks of {LONG_SHORTEST} to {LONG_LONGEST} s for each of the {len(runs)}: about 8 min")
    for run in runs:
        run.stack.outside.publish(LIST, _lengths())
    _until([(run, run.is_over) for run in runs], "all tasks done, at the fewest pods", LONG_SECONDS)
    return {run.system.name: _long_figures(run) for run in runs}


def _lengths() -> list[float]:
    """In seconds; the same for all systems and at all times."""
    chance = random.Random(LONG_TASKS)
    return [round(chance.uniform(LONG_SHORTEST, LONG_LONGEST), 1) for _ in range(LONG_TASKS)]


def _long_figures(run: Watched) -> Figures:
    entries = run.stack.ledger()
    verdict = judge(published_in(entries), entries)
    began = min(entry.at for entry in entries if entry.event == "published")
    done = max((entry.at for entry in entries if entry.event == "finish"), default=None)
    others = {"killed": len(verdict.killed), "undone": len(verdict.lost), "finished": verdict.finished}
    return run.figures(began, done, others)


def _until(ends: Ends, what: str, seconds: float) -> None:
    """All of them true, each once; or the deadline, and what the cluster says of those that are not."""
    deadline = time.monotonic() + seconds
    left = list(ends)
    while left and time.monotonic() < deadline:
        time.sleep(1)
        left = [(run, fact) for run, fact in left if not _holds(fact)]
    for run, _ in left:
        seen = f"{run.course.now}, {run.backlog.now}"
        say(f"{run.system.name}: {what}: not within {seconds:.0f} s; last seen: {seen}")
        say(diagnosis(run.stack.cluster, run.stack.namespace))


def _holds(fact: Callable[[], bool]) -> bool:
    """A look that failed is taken again."""
    try:
        return fact()
    except DemoError:
        return False
