"""A model of broker, workers and cluster around the real loop, with faults at any step.

Tasks are published, taken, acknowledged early or late, and finished; between any two reads of one tick the
workers go on. Whatever fails: the replicas stay within their bounds, no pod with a task is removed, and
after the last fault the pool comes to rest at the right size with every worker consuming.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.broker.backlog import Delivery, Unacked
from scaler.cluster.objects import Kind
from scaler.workers.answers import HeldTasks
from scaler.workers.link import ControlUnavailable
from tests.scaler.fake_workers import FakeWorkers
from tests.scaler.fakes import Killed
from tests.scaler.stage import Stage, failure

SLOTS = 2
REST_TICKS = 260
"""Longer than the calm, a drain's deadline, the rest after it and the calm once more."""


@dataclass(slots=True)
class World(FakeWorkers):
    """Workers that take tasks and finish them whenever they are looked at."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    stage: Stage | None = None
    queue: list[str] = field(default_factory=list)
    published: int = 0

    def publish(self, many: int) -> None:
        for _ in range(many):
            self.queue.append(f"t{self.published}")
            self.published += 1
        self.show()

    def move(self) -> None:
        for pod in self.living():
            tasks = self.running.setdefault(pod, set())
            for task in sorted(tasks):
                if self.chance.random() < 0.2:
                    tasks.discard(task)
                    self.processed[pod] = self.processed.get(pod, 0) + 1
            while self.queue and len(tasks) < SLOTS and pod not in self.stopped:
                task = self.queue.pop(0)
                tasks.add(task)
                if self.chance.random() < 0.5:
                    self.acknowledged.add(task)
        self.show()

    def show(self) -> None:
        """What the broker has of it."""
        assert self.stage is not None
        late = [task for tasks in self.running.values() for task in tasks if task not in self.acknowledged]
        broker = self.stage.broker
        broker.lengths["sums"] = len(self.queue)
        broker.unacked = Unacked(by_queue={"sums": len(late)})
        broker.deliveries = [Delivery(frozenset({"sums"}), task, None) for task in late]

    def lose(self, pod: str) -> None:
        """Its container restarts: it consumes again, and what it ran is gone or comes again."""
        for task in self.running.pop(pod, set()):
            if task not in self.acknowledged:
                self.queue.append(task)
        self.stopped.discard(pod)
        self.show()

    async def tasks(self, nodes: Collection[str]) -> Mapping[str, HeldTasks]:
        self.move()
        return await FakeWorkers.tasks(self, nodes)

    async def stop_consuming(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]:
        self.move()
        return await FakeWorkers.stop_consuming(self, queues)


def world(seed: int, **target: object) -> tuple[Stage, World]:
    stage = Stage()
    made = World(stage.cluster, lambda: stage.at, chance=random.Random(seed), stage=stage)
    stage.workers = made
    stage.restart()
    policy = {"type": "length", "averageValue": 2}
    stage.cluster.add(
        replicas=2,
        minReplicas=0,
        maxReplicas=6,
        drainSeconds=30,
        metrics=[{"name": "message_queue", "target": policy}],
        behavior={"scaleDown": {"stabilizationWindowSeconds": 10}},
        **target,  # type: ignore[arg-type]  # more of the target
    )
    return stage, made


def removed_busy(stage: Stage, made: World, known: int) -> list[str]:
    return [pod for pod in stage.cluster.removed[known:] if made.running.get(pod)]


def befall(stage: Stage, made: World, what: str, number: int) -> None:
    """What goes wrong in general."""
    match what:
        case "publish":
            made.publish(number)
        case "kill before":
            stage.cluster.kill_at = len(stage.cluster.writes) + number % 4
        case "kill after":
            stage.cluster.kill_at = -(len(stage.cluster.writes) + 1 + number % 4)
        case "kill while told":
            made.kill_at = "stop" if number % 2 else "resume"
        case "broker away":
            stage.broker.goes_away()
        case "control away":
            made.failure = ControlUnavailable("no")
        case "heal":
            heal(stage, made)


def befall_cluster(stage: Stage, what: str, number: int) -> None:
    match what:
        case "refuse":
            stage.cluster.refuse[("status", "mark", "scale")[number % 3]] = failure(Kind.UNREACHABLE)
        case "slow":
            stage.cluster.lag = number % 7
        case "stale":
            stage.cluster.failure = failure(Kind.UNREACHABLE)


def befall_worker(stage: Stage, made: World, what: str, pod: str) -> None:
    match what:
        case "dumb":
            made.dumb.add(pod)
        case "silent":
            made.silent.add(pod)
        case "restart":
            made.lose(pod)
        case "not ready":
            stage.cluster.change(pod, ready=False)


async def live(stage: Stage, made: World, steps: list[tuple[str, int]]) -> None:
    for what, number in steps:
        befall(stage, made, what, number)
        befall_cluster(stage, what, number)
        pods = sorted(made.living())
        if pods:
            befall_worker(stage, made, what, pods[number % len(pods)])
        await tick(stage, made, 1 + number % 4)
    heal(stage, made)
    await tick(stage, made, REST_TICKS)


def heal(stage: Stage, made: World) -> None:
    stage.broker.comes_back()
    stage.cluster.kill_at = made.kill_at = made.failure = stage.cluster.failure = None
    stage.cluster.refuse.clear()
    stage.cluster.lag = 0
    made.dumb.clear()
    made.silent.clear()
    for pod in made.living():
        stage.cluster.change(pod, ready=True)


async def tick(stage: Stage, made: World, times: int) -> None:
    for _ in range(times):
        known = len(stage.cluster.removed)
        try:
            await stage.tick()
        except Killed:
            stage.cluster.kill_at = made.kill_at = None
            stage.restart()
        stage.cluster.snapshot()
        assert removed_busy(stage, made, known) == []
        assert 0 <= stage.cluster.replicas() <= 6
        made.move()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *["publish"] * 4,
                "kill before",
                "kill after",
                "kill while told",
                "broker away",
                "control away",
                "dumb",
                "silent",
                "restart",
                "not ready",
                "refuse",
                "stale",
                *["slow"] * 2,
                *["heal"] * 3,
            ]
        ),
        st.integers(0, 20),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 2**16))
def test_no_task_is_killed_whatever_fails_and_the_pool_comes_to_rest(
    steps: list[tuple[str, int]], seed: int
) -> None:
    stage, made = world(seed)

    asyncio.run(live(stage, made, steps))

    assert made.queue == []
    assert made.stopped & made.living().keys() == set()
    assert stage.cluster.replicas() == 0
    assert "draining" not in stage.cluster.statuses["sums"]


def test_without_the_handshake_the_model_kills() -> None:
    """The check of the check: the same world notices what the handshake prevents."""
    killed = 0
    for seed in range(20):
        stage, made = world(seed)
        stage.handshake = False
        stage.restart()
        try:
            asyncio.run(live(stage, made, [("publish", 12), ("heal", 3)] * 4))
        except AssertionError:
            killed += 1

    assert killed > 0
