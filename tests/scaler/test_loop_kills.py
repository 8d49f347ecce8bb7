"""A scaler killed at any write is followed by one that ends at the same replicas."""

from __future__ import annotations

import itertools

import pytest

from tests.scaler.fakes import Killed
from tests.scaler.stage import TWO_A_MINUTE, Stage

KILLS = [1, -1, 0, -2, 2, -3]
"""Before and after each of the three writes of a step: numbers as `FakeCluster.kill_at` takes them."""
WAY_DOWN = 7
"""Writes of a step down by two: two statuses or three, two marks, `/scale`, events."""


@pytest.mark.parametrize("kill_at", KILLS)
async def test_kill_at_any_write_doubles_no_step(kill_at: int) -> None:
    """R8: a scaler killed before or after any write is followed by one that ends at the same replicas."""
    stage = await limited(replicas=2)
    stage.broker.lengths["sums"] = 900
    stage.cluster.kill_at = kill_at
    with pytest.raises(Killed):
        await stage.tick()

    assert set(await course_after(stage)) == {4}


@pytest.mark.parametrize("kill_at", [*range(WAY_DOWN), *range(-WAY_DOWN, 0)])
async def test_kill_at_any_write_of_a_drain_finishes_it(kill_at: int) -> None:
    """The next scaler finds the victims on the status and lets just those go, once."""
    stage = await limited(replicas=8)
    busy = {f"sums-{number}": {f"task-{number}"} for number in range(6)}
    stage.workers.running = {pod: set(tasks) for pod, tasks in busy.items()}
    stage.broker.lengths["sums"] = 0
    stage.cluster.kill_at = kill_at
    with pytest.raises(Killed):
        await stage.tick(6)

    course = await course_after(stage)

    assert course[-1] == 6
    assert course == sorted(course, reverse=True)
    assert sorted(stage.cluster.removed) == ["sums-6", "sums-7"]
    assert not stage.workers.stopped & busy.keys()


@pytest.mark.parametrize("kill_at", ["stop", "resume"])
async def test_kill_before_workers_are_told_leaves_nobody_deaf(kill_at: str) -> None:
    """Whoever was to be taken back is on the status until it consumes."""
    stage = await limited(replicas=8)
    stage.workers.running = {f"sums-{number}": {f"task-{number}"} for number in range(8)}
    stage.broker.lengths["sums"] = 0
    if kill_at == "stop":
        stage.workers.kill_at = "stop"
        with pytest.raises(Killed):
            await stage.tick(4)
    else:
        await stage.tick(3)
        assert len(stage.workers.stopped) == 2
        stage.workers.kill_at = "resume"
        stage.broker.lengths["sums"] = 800
        with pytest.raises(Killed):
            await stage.tick()
        assert len(stage.cluster.statuses["sums"]["draining"]) == 2
    stage.broker.lengths["sums"] = 800
    stage.workers.kill_at = None
    stage.restart()

    await stage.tick(3)

    assert stage.workers.stopped == set()
    assert "draining" not in stage.cluster.statuses["sums"]
    assert stage.cluster.removed == []


async def limited(replicas: int) -> Stage:
    """A pool that may change by two a minute, at rest."""
    two = [{"type": "Pods", "value": 2, "periodSeconds": 60}]
    limits = {
        "scaleUp": {"policies": two},
        "scaleDown": {"policies": two, "stabilizationWindowSeconds": 0},
    }
    stage = Stage()
    stage.cluster.add(replicas=replicas, behavior=limits)
    stage.broker.lengths["sums"] = replicas * 100
    await stage.settle()
    return stage


async def course_after(stage: Stage) -> list[int]:
    """The replicas over 56 s, within one period of the limit, with a new scaler."""
    stage.cluster.kill_at = None
    stage.restart()
    course = []
    for _ in range(28):
        await stage.tick()
        course.append(stage.cluster.replicas())
    return course


async def test_kills_in_a_row_converge(stage: Stage) -> None:
    """R8: killed at each write of each step, the replicas still arrive, and never overshoot."""
    stage.cluster.add(behavior=TWO_A_MINUTE)
    stage.broker.lengths["sums"] = 900
    course = [2]

    for number in itertools.count():
        stage.cluster.kill_at = len(stage.cluster.writes) + number % 3
        try:
            await stage.tick(5)
        except Killed:
            stage.restart()
        stage.cluster.kill_at = None
        stage.at += 7
        if stage.cluster.replicas() != course[-1]:
            course.append(stage.cluster.replicas())
        if course[-1] == 9:
            break
        assert number < 200

    assert course == [2, 4, 6, 8, 9]  # ceil(900 / 100), by two a minute
