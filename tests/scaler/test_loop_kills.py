"""A scaler killed at any write is followed by one that ends at the same replicas."""

from __future__ import annotations

import itertools

import pytest

from tests.scaler.fakes import Killed
from tests.scaler.stage import TWO_A_MINUTE, Stage

KILLS = [1, -1, 0, -2, 2, -3]
"""Before and after each of the three writes of a step: numbers as `FakeCluster.kill_at` takes them."""


@pytest.mark.parametrize("kill_at", KILLS)
@pytest.mark.parametrize(
    ("replicas", "length", "expected"), [(2, 900, 4), (8, 0, 6)], ids=["on the way up", "on the way down"]
)
async def test_kill_at_any_write_doubles_no_step(
    kill_at: int, replicas: int, length: int, expected: int
) -> None:
    """R8: a scaler killed before or after any write is followed by one that ends at the same replicas."""
    two = [{"type": "Pods", "value": 2, "periodSeconds": 60}]
    limits = {
        "scaleUp": {"policies": two},
        "scaleDown": {"policies": two, "stabilizationWindowSeconds": 0},
    }
    stage = Stage()
    stage.cluster.add(replicas=replicas, behavior=limits)
    stage.broker.lengths["sums"] = replicas * 100
    await stage.settle()
    stage.broker.lengths["sums"] = length
    stage.cluster.kill_at = kill_at
    with pytest.raises(Killed):
        await stage.tick()
    stage.cluster.kill_at = None
    stage.restart()

    course = []
    for _ in range(28):  # 56 s: within one period of the limit
        await stage.tick()
        course.append(stage.cluster.replicas())

    assert set(course) == {expected}


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
