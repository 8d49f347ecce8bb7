"""Owns the two loads: what is published to a stack, when its run is over, and the figures of it.

A flood of short tasks, which need the machine, so the systems take turns; and few long tasks, which sleep, so
the systems have theirs at the same time, each on its own stack. A run that is not over by its deadline ends
there, and the figures that it lacks stay empty.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from bench.keda import backlog
from bench.keda.backlog import Backlog
from bench.keda.figures import Figures, figures
from bench.keda.systems import LIST, System, in_charge
from demo.commands import say
from demo.flood import publish
from tests.e2e.conftest import NewStack
from tests.e2e.course import Course, followed
from tests.e2e.ledger import judge, published_in, running_at
from tests.e2e.stack import POOL, Stack

HPA_SYNC_SECONDS: Final = 15
OVER_SECONDS: Final = 1200
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

    def figures(self, began: float, done: float | None, others: dict[str, float] | None = None) -> Figures:
        return figures(
            self.course.moments,
            began=began,
            done=done,
            least=self.stack.least,
            most=int(self.stack.settings["maxReplicas"]),
            others=others,
        )


@contextmanager
def watched(system: System, load: Mapping[str, object], new_stack: NewStack) -> Iterator[Watched]:
    say(f"Deploying a stack for {system.name}")
    stack = new_stack(**{**load, **system.settings})
    try:
        with (
            in_charge(system, stack),
            followed(stack.cluster, stack.namespace, POOL) as course,
            backlog.read(stack) as waiting,
        ):
            yield Watched(system=system, stack=stack, course=course, backlog=waiting)
    finally:
        stack.remove()


def flood(run: Watched, megabytes: Callable[[], float]) -> Figures:
    # At any moment of KEDA's and the HPA's turns, which last longer than ours.
    time.sleep(random.uniform(0, HPA_SYNC_SECONDS))
    query = f"tasks={FLOOD_TASKS}&batches={FLOOD_BATCHES}&task=sleep&ms={FLOOD_MS}"
    say(f"{run.system.name}: a flood of {FLOOD_BATCHES} x {FLOOD_TASKS:,} tasks of {FLOOD_MS} ms")
    answer = publish(run.stack.cluster, run.stack.namespace, query)
    assert answer.get("published") == FLOOD_TASKS * FLOOD_BATCHES, answer
    published = time.time()
    _until([lambda: run.backlog.empty_at(published) is not None and run.is_back()])
    began, done = float(str(answer["began"])), run.backlog.empty_at(published)
    return run.figures(began, done, {"megabytes": megabytes()})


def long_tasks(systems: Sequence[System], new_stack: NewStack) -> dict[str, Figures]:
    with ExitStack() as open_:
        runs = [open_.enter_context(watched(system, LONG, new_stack)) for system in systems]
        say(f"{LONG_TASKS} tasks of {LONG_SHORTEST} to {LONG_LONGEST} s for each of the {len(runs)} systems")
        began = [_publish_long(run.stack) for run in runs]
        _until([_is_over(run) for run in runs])
        return {run.system.name: _long_figures(run, at) for run, at in zip(runs, began, strict=True)}


def _publish_long(stack: Stack) -> float:
    """The same durations for all. By the pod outside, whose publishes are in the ledger."""
    chance = random.Random(LONG_TASKS)
    lengths = [round(chance.uniform(LONG_SHORTEST, LONG_LONGEST), 1) for _ in range(LONG_TASKS)]
    program = (
        "import json, sys; from sample_app.producer import publish; "
        f"assert all([publish('{LIST}', f'long-{{n}}', s) for n, s in enumerate(json.loads(sys.argv[1]))])"
    )
    stack.kubectl("exec", "outside", "--", "python3", "-c", program, json.dumps(lengths))
    return min(entry.at for entry in stack.ledger() if entry.event == "published")


def _is_over(run: Watched) -> Callable[[], bool]:
    """Nothing queued, nothing running, as many pods as the fewest. Not: nothing held. What a killed worker
    held stays so for an hour."""

    def over() -> bool:
        if run.backlog.now.queued or not run.is_back():
            return False
        return not running_at(run.stack.ledger(), time.time()).keys() & set(run.course.now.living)

    return over


def _long_figures(run: Watched, began: float) -> Figures:
    entries = run.stack.ledger()
    verdict = judge(published_in(entries), entries)
    done = max((entry.at for entry in entries if entry.event == "finish"), default=None)
    others = {"killed": len(verdict.killed), "undone": len(verdict.lost), "finished": verdict.finished}
    return run.figures(began, done, dict(others))


def _until(facts: Sequence[Callable[[], bool]]) -> None:
    """All of them true, each once; or the deadline."""
    deadline = time.monotonic() + OVER_SECONDS
    left = list(facts)
    while left and time.monotonic() < deadline:
        time.sleep(1)
        left = [fact for fact in left if not fact()]
