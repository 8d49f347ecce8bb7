"""What the comparison with KEDA reads off a run, and that the page hides no row in which we are behind."""

from __future__ import annotations

import pytest

from bench.keda.figures import Figures, figures
from bench.keda.page import Comparison
from bench.keda.systems import SYSTEMS
from tests.e2e.course import Moment


def moment(at: float, *, replicas: int, pods: int, ready: int | None = None) -> Moment:
    return Moment(
        at=at,
        replicas=replicas,
        pods=pods,
        ready=pods if ready is None else ready,
        living=(),
        draining=frozenset(),
        marked=frozenset(),
        condition="",
    )


GROWN = (
    moment(90, replicas=2, pods=2),
    moment(100, replicas=2, pods=2),
    moment(103, replicas=4, pods=4, ready=2),
    moment(106, replicas=4, pods=4),
)
SHRUNK = (moment(150, replicas=2, pods=4, ready=2), moment(153, replicas=2, pods=2))


@pytest.mark.parametrize(
    ("moments", "done", "expected"),
    [
        pytest.param(
            (*GROWN, *SHRUNK, moment(160, replicas=2, pods=2)),
            140,
            # 3 s of 2 pods, then 4 until they are gone
            Figures(first_up=3, at_most=6, done=40, back=53, pod_seconds=3 * 2 + 50 * 4),
            id="out and in again",
        ),
        pytest.param(
            (*GROWN, *SHRUNK, moment(160, replicas=2, pods=2)),
            158,
            Figures(first_up=3, at_most=6, done=58, back=53, pod_seconds=3 * 2 + 50 * 4 + 5 * 2),
            id="back at the fewest before the work is done",
        ),
        pytest.param(
            (*GROWN, *SHRUNK, moment(160, replicas=3, pods=3), moment(170, replicas=2, pods=2)),
            140,
            Figures(first_up=3, at_most=6, done=40, back=70, pod_seconds=3 * 2 + 50 * 4 + 7 * 2 + 10 * 3),
            id="back counts from the last time above the fewest",
        ),
        pytest.param(
            GROWN,
            None,
            Figures(first_up=3, at_most=6, done=None, back=None, pod_seconds=None),
            id="a run that ended at its deadline has no figure made up",
        ),
        pytest.param(
            GROWN[:2],
            140,
            Figures(first_up=None, at_most=None, done=40, back=None, pod_seconds=None),
            id="what never grew is not back",
        ),
    ],
)
def test_figures_of_a_run(moments: tuple[Moment, ...], done: float | None, expected: Figures) -> None:
    assert figures(moments, began=100, done=done, least=2, most=4) == expected


def run(first_up: float | None = 7, finished: int = 24) -> Figures:
    others = {"megabytes": 50.0, "killed": 0, "undone": 0, "finished": finished}
    return Figures(first_up=first_up, at_most=9, done=100, back=160, pod_seconds=500, others=others)


def comparison(ours: list[Figures], theirs: list[Figures]) -> Comparison:
    runs = {system.name: theirs if system.is_keda else ours for system in SYSTEMS}
    return Comparison(
        date="2026-11-26",
        machine="m",
        versions="v",
        repeats=len(ours),
        flood=runs,
        long={system.name: [run()] for system in SYSTEMS},
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param([run(7.04)], [run(7.0)], 0, id="equal as shown is not behind"),
        pytest.param([run(7.1)], [run(7.0)], 2, id="later than each KEDA of its kind"),
        pytest.param([run(None)], [run(7.0)], 2, id="never reached is behind"),
        pytest.param([run(None)], [run(None)], 0, id="reached by nobody"),
        pytest.param([run(1), run(9), run(2)], [run(3)] * 3, 0, id="medians are compared"),
    ],
)
def test_rows_in_which_we_are_behind_are_named(
    ours: list[Figures], theirs: list[Figures], expected: int
) -> None:
    behind = comparison(ours, theirs).behind()

    assert [line.partition(" (")[0] for line in behind] == ["Flood: first scale-up, s"] * expected


def test_more_finished_tasks_are_better() -> None:
    runs = {system.name: [run(finished=24 if system.is_keda else 23)] for system in SYSTEMS}
    compared = Comparison(date="d", machine="m", versions="v", repeats=1, flood=runs, long=runs)

    assert [line.partition(" (")[0] for line in compared.behind()] == [
        "Long tasks: tasks finished, of 24"
    ] * 2


def test_a_cell_tells_the_spread_and_what_was_missed() -> None:
    rows = comparison([run(1), run(4), run(None)], [run(3)]).rows()

    assert rows[1] == [
        "Flood: first scale-up, s",
        "2.5 (1 to 4), not reached 1 x",
        "3",
        "2.5 (1 to 4), not reached 1 x",
        "3",
    ]
