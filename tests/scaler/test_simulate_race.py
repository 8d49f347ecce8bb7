"""What a replay is judged by: waits, reversals, and an hour of load at twenty workers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from scaler.simulate.contender import PLAIN_SPEC, contender_of
from scaler.simulate.load import made
from scaler.simulate.race import Run, race
from scaler.simulate.site import Course, Workers

OURS = contender_of("ours", PLAIN_SPEC, {})


def run(waits: Sequence[float] = (), replicas: Sequence[int] = (1,)) -> Run:
    course = Course()
    course.replicas[:] = [(10.0 * number, count) for number, count in enumerate(replicas)]
    return Run(
        contender=OURS,
        course=course,
        seconds=100.0,
        waits=waits,
        lives=(),
        unfinished=0,
        to_maximum=None,
        to_drain=None,
        to_minimum=None,
    )


@pytest.mark.parametrize(
    ("replicas", "reversals"),
    [
        pytest.param([2], 0, id="nothing changed"),
        pytest.param([2, 4], 0, id="it grew"),
        pytest.param([2, 4, 8, 9], 0, id="it grew in steps"),
        pytest.param([2, 4, 3, 2], 1, id="it grew and shrank"),
        pytest.param([2, 4, 2, 4], 2, id="and grew again"),
        pytest.param([4, 3, 4, 3, 4], 3, id="back and forth"),
    ],
)
def test_a_reversal_is_a_change_of_direction(replicas: Sequence[int], reversals: int) -> None:
    assert run(replicas=replicas).reversals == reversals


@pytest.mark.parametrize(
    ("share", "seconds"),
    [
        pytest.param(0.0, 1.0, id="the shortest"),
        pytest.param(0.5, 2.0, id="half of four"),
        pytest.param(0.51, 3.0, id="more than half needs a third"),
        pytest.param(0.75, 3.0, id="three of four"),
        pytest.param(0.95, 9.0, id="p95 of four is the longest"),
        pytest.param(1.0, 9.0, id="all"),
    ],
)
def test_a_wait_is_one_that_this_share_did_not_exceed(share: float, seconds: float) -> None:
    assert run(waits=[1.0, 2.0, 3.0, 9.0]).wait(share) == seconds


def test_without_a_task_nobody_waited() -> None:
    assert math.isnan(run().wait(0.5))


def test_an_hour_at_twenty_workers() -> None:
    """The hour that `bench.scaler` times: what it yields, whatever it takes."""
    load = made("poisson:rate=28,service=0.6", 1)
    keys = {"minReplicas": "2", "maxReplicas": "20", "averageValue": "20"}
    (found,) = race(load, [contender_of("ours", PLAIN_SPEC, keys)], Workers(), seed=1)

    most = max(count for _, count in found.course.replicas)
    waited = [round(found.wait(share), 1) for share in (0.5, 0.95)]
    assert (len(found.waits), found.unfinished, most, waited) == (len(load.arrivals), 0, 20, [8.9, 12.6])
