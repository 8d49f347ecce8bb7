"""Owns the scenes of the proof: a stack under a load, and what is done to it meanwhile.

A scene returns what came of it and asserts nothing: the tests say what must come out, and the soak prints
it. Grace periods are so short that a worker chosen wrongly is killed with its task. Scenes mostly wait, so
several run side by side, each on a stack of its own.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from scaler.pool.stuck import STUCK_SECONDS
from scaler.workers.roll_call import LOOK_AFTER_SECONDS
from tests.e2e.course import Course, Fall, Moment, Step, followed
from tests.e2e.faults import QUEUE, Killer, consumed, silence
from tests.e2e.ledger import Entry, Verdict, judge, published_in, running_at
from tests.e2e.stack import POOL, WORKERS, Stack
from tests.e2e.ways import Rendered

MOST: Final = 4
"""Workers of a scene, at most."""
GROW_SECONDS = 40
SHRINK_SECONDS = 60
EVICTED_SECONDS = max(LOOK_AFTER_SECONDS) + STUCK_SECONDS + 120
REST_SECONDS = 120
"""For all that is outstanding to finish, and the pool to be at its least."""
WITHOUT_PAGES: Final = {"flower": "false", "sampleApp": "false"}
SEEN_SECONDS: Final = 10.0
"""What is told of a busy pod that was taken: so long before and after it."""
LEAVING: Final = "leaving"
"""A second pool, and its queue."""
TWO_POOLS: Final = {POOL: {"queues": [QUEUE]}, LEAVING: {"queues": [LEAVING]}}
BREATHING: Final[Mapping[str, object]] = {
    **WITHOUT_PAGES,
    "minReplicas": 1,
    "maxReplicas": 4,
    "averageValue": 2,
    "prefetchMultiplier": 1,
    "gracePeriodSeconds": 3,
    "drainSeconds": 60,
    "pollSeconds": 1,
    "behavior": json.dumps({"scaleDown": {"stabilizationWindowSeconds": 2}}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Tasks outstanding, and their durations in seconds, log-uniform between two bounds."""

    low: int = 2
    high: int = 9
    """At two a worker: for one worker, and for the four that there may be."""
    shortest: float = 0.1
    longest: float = 30

    def order(self, stack: Stack, outstanding: int, batch: str, queue: str = QUEUE) -> None:
        stack.outside.order(queue, outstanding, batch=batch, shortest=self.shortest, longest=self.longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    verdict: Verdict
    falls: list[Fall]
    with_victim: int
    """Of the falls: those with a task on a pod that the ReplicaSet's own order would have taken."""
    busy: tuple[str, ...]
    """Pods that were taken while they ran a task: what was seen of each."""
    steps: Counter[Step]
    kills: Counter[Step] = field(default_factory=Counter)
    """Of the scaler, by the step that had just been seen."""
    consuming: Mapping[str, bool] = field(default_factory=dict)
    """By worker of the end, whether it takes tasks from the pool's queue."""
    early: float | None = None
    """Seconds from the first worker that was asked for a task of later, until that task's time."""
    refused: tuple[str, ...] = ()
    """Why a preview said no."""

    def __str__(self) -> str:
        removed = sum(fall.by for fall in self.falls)
        text = f"{len(self.falls)} scale-ins of {removed} workers, {len(self.busy)} of them busy"
        text += f", {self.with_victim} with a victim"
        if self.steps[Step.TAKEN_BACK]:
            text += f", {self.steps[Step.TAKEN_BACK]} drains taken back"
        if self.kills:
            text += f", scaler killed {self.kills.total()} times ({counts(self.kills)})"
        return f"{text}: {self.verdict}"


def counts(steps: Counter[Step]) -> str:
    return ", ".join(f"{step} {times}" for step, times in sorted(steps.items()))


def breathe(
    stack: Stack,
    *,
    scale_ins: int,
    victims: int,
    seconds: float,
    tasks: int = 0,
    load: Load = Load(),
    clean: bool = True,
) -> Outcome:
    """Load and pause in turn until there was enough of everything; then wait until nothing is left.

    Where it is not clean, killed workers leave messages behind that come back after an hour only.
    """
    with followed(stack.cluster, stack.namespace, POOL) as course:
        breath = _Breath(stack, course, seconds, load)
        while breath.left:
            breath.turn()
            entries = stack.ledger()
            enough = len(course.falls()) >= scale_ins and len(published_in(entries)) >= tasks
            if enough and with_victim(course, entries) >= victims:
                break
        breath.out(clean=clean)
        return outcome(stack, course)


def killed(stack: Stack, *, kills: int, seconds: float) -> Outcome:
    """The same, with the scaler killed when a step has been seen: each step in its turn."""
    with followed(stack.cluster, stack.namespace, POOL) as course:
        breath = _Breath(stack, course, seconds, Load(), killer=Killer(stack, each=-(-kills // len(Step))))
        while breath.left and breath.kills.total() < kills:
            breath.turn()
        consuming = breath.consuming()
        breath.out()
        return outcome(stack, course, kills=breath.kills, consuming=consuming)


def rolled(stack: Stack, *, rolls: int) -> Outcome:
    """A steady load; new pods for all workers several times, then fewer and fewer of them by new limits."""
    with followed(stack.cluster, stack.namespace, POOL) as course:
        load = Load(longest=10)
        load.order(stack, load.high, "roll")
        stack.wait(partial(_are_living, course, MOST), "four workers", GROW_SECONDS)
        for number in range(rolls):
            stack.apply(env=json.dumps({"ROLL": str(number)}))
            stack.kubectl("rollout", "status", f"deployment/{WORKERS}", "--timeout=300s", seconds=310)
        for limit in (3, 2):
            stack.apply(maxReplicas=limit)
            stack.wait(partial(_are_living, course, limit), f"{limit} workers", SHRINK_SECONDS)
        load.order(stack, 0, "roll")
        rest(stack, course)
        return outcome(stack, course)


def woken(stack: Stack, *, ahead: float) -> Outcome:
    """A pool of no workers: tasks of now wake it, it rests again, and a task of later wakes it in time."""
    with followed(stack.cluster, stack.namespace, POOL) as course:
        stack.outside.publish(QUEUE, [1], batch="now")
        stack.wait(lambda: bool(course.now.living), "a worker", GROW_SECONDS)
        rest(stack, course)
        rested = len(course.moments) - 1
        due = time.time() + ahead
        stack.outside.publish(QUEUE, [1], batch="later", countdown=ahead)
        stack.wait(lambda: bool(course.now.living), "a worker for the task of later", ahead + GROW_SECONDS)
        rose = next(moment.at for moment in course.moments[rested:] if moment.replicas)
        rest(stack, course)
        return replace(outcome(stack, course), early=due - rose)


def deafened(stack: Stack) -> Outcome:
    """One of two workers takes nothing any more, as after a lost connection, while work is due."""
    with followed(stack.cluster, stack.namespace, POOL) as course:
        load = Load(longest=3)
        load.order(stack, load.high, "deaf")
        deaf = min(stack.worker_pods())

        def evicted() -> bool:
            # A scaler that begins to write has deaf workers consume again, a few times.
            if consumed(stack).get(deaf):
                silence(stack, deaf)
            return deaf not in course.now.living

        stack.wait(evicted, f"{deaf} evicted", EVICTED_SECONDS)
        stack.wait(partial(_are_living, course, 2), "two workers", GROW_SECONDS)
        load.order(stack, 0, "deaf")
        rest(stack, course)
        return outcome(stack, course, consuming=consumed(stack))


def departed(stack: Stack) -> Outcome:
    """One of two pools under load is declared no longer: refused while it has tasks, and then it goes."""
    way, load = Rendered(stack), Load(longest=5)
    without = {"pools": json.dumps({POOL: TWO_POOLS[POOL]})}
    with followed(stack.cluster, stack.namespace, LEAVING) as course:
        for queue in (QUEUE, LEAVING):
            load.order(stack, load.high, queue, queue)
        stack.wait(partial(_are_living, course, MOST), "four workers", GROW_SECONDS)
        refused = tuple(way.refusals(**without))
        load.order(stack, 0, LEAVING, LEAVING)
        stack.wait(lambda: not way.refusals(**without), "leave to remove the pool", REST_SECONDS)
    way.remove_pool(LEAVING, **without)
    with followed(stack.cluster, stack.namespace, POOL) as other:
        load.order(stack, 0, QUEUE)
        rest(stack, other)
    return replace(outcome(stack, course), refused=refused)


def _are_living(course: Course, workers: int) -> bool:
    return len(course.now.living) == workers


def outcome(
    stack: Stack,
    course: Course,
    *,
    kills: Counter[Step] | None = None,
    consuming: Mapping[str, bool] | None = None,
) -> Outcome:
    entries = stack.ledger()
    return Outcome(
        verdict=judge(published_in(entries), entries),
        falls=course.falls(),
        with_victim=with_victim(course, entries),
        busy=tuple(_taken_busy(course, entries)),
        steps=course.counted(),
        kills=kills or Counter(),
        consuming=consuming or {},
    )


def _taken_busy(course: Course, entries: list[Entry]) -> Iterator[str]:
    for fall in course.falls():
        running = running_at(entries, fall.at)
        for pod in fall.took_busy(running):
            ran = [
                f"{entry.at - fall.at:+.2f} s: {entry.event} of {entry.task}"
                for entry in entries
                if entry.task in running[pod]
            ]
            yield "\n".join([f"{pod}, taken at {fall.at:.2f}", *ran, *course.of(pod, fall.at, SEEN_SECONDS)])


def with_victim(course: Course, entries: list[Entry]) -> int:
    return sum(fall.would_have_killed(running_at(entries, fall.at - 0.5)) for fall in course.falls())


def rest(stack: Stack, course: Course, *, clean: bool = True) -> None:
    def nothing_left() -> bool:
        status = stack.get("celery", POOL)["status"]
        waiting = (status.get("queued"), status.get("unacked") if clean else 0)
        runs = running_at(stack.ledger(), time.time()).keys() & set(course.now.living)
        return waiting == (0, 0) and not runs and (len(course.now.living) == stack.least or not clean)

    stack.wait(nothing_left, "no task left and the fewest workers", REST_SECONDS)


class _Breath:
    """One load that grows and falls; now and then it is back before the pool has shrunk."""

    def __init__(
        self, stack: Stack, course: Course, seconds: float, load: Load, killer: Killer | None = None
    ) -> None:
        self._stack = stack
        self._load = load
        self._course = course
        self._killer = killer
        self.kills: Counter[Step] = killer.kills if killer else Counter()
        self._seen = len(course.moments)
        self._ends = time.monotonic() + seconds
        self._chance = random.Random(4)

    @property
    def left(self) -> bool:
        return time.monotonic() < self._ends

    def turn(self) -> None:
        self.grow()
        self._order(self._load.low)
        if self._chance.random() < 0.3:
            self._until(lambda now: bool(now.draining), SHRINK_SECONDS)
            self._until(lambda _: False, self._chance.uniform(0, 3))
        else:
            self._until(lambda now: len(now.living) == 1, SHRINK_SECONDS)

    def grow(self) -> None:
        self._order(self._load.high)
        self._until(lambda now: len(now.living) == MOST and not now.draining, GROW_SECONDS)

    def consuming(self) -> dict[str, bool]:
        """By worker, once there are four and nobody is to be killed any more; one that boots has time."""
        self._killer = None
        deadline = time.monotonic() + GROW_SECONDS
        while True:
            self.grow()
            found = consumed(self._stack)
            if (len(found) == MOST and all(found.values())) or time.monotonic() > deadline:
                return found

    def out(self, *, clean: bool = True) -> None:
        self._killer = None
        self._order(0)
        rest(self._stack, self._course, clean=clean)

    def _order(self, outstanding: int) -> None:
        self._load.order(self._stack, outstanding, "breath")

    def _until(self, fact: Callable[[Moment], bool], seconds: float) -> None:
        """Not reaching it is no failure: the load goes on breathing."""
        deadline = time.monotonic() + seconds
        while not fact(self._course.now) and time.monotonic() < deadline:
            if self._killer is not None:
                self._seen = self._killer.look(self._course, self._seen)
            time.sleep(0.1)
