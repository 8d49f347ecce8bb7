"""How fast tasks come and are begun, out of counts that workers keep and a demand that moves."""

from __future__ import annotations

import pytest

from scaler.pool.flow import Flow
from tests.scaler.samples import AT


def run(*ticks: tuple[dict[str, int], int | None], new: tuple[str, ...] = (), complete: bool = True) -> Flow:
    """Ticks of 2 s: what each pod says it has begun, and the demand."""
    flow = Flow()
    for number, (said, demand) in enumerate(ticks):
        flow = flow.after(said, new=new, demand=demand, complete=complete, at=AT + 2 * number)
    return flow


def rates(flow: Flow) -> tuple[float | None, float | None]:
    """Tasks a second that came, and that were begun."""
    come, begun = flow.arrivals_per_second, flow.begun_per_second
    return (None if come is None else round(come, 2), None if begun is None else round(begun, 2))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(({"a": 5}, 100), ({"a": 25}, 80), (0, 10), id="20 begun in 2 s, and nothing came"),
        pytest.param(({"a": 5}, 100), ({"a": 25}, 100), (10, 10), id="what was begun came anew"),
        pytest.param(({"a": 5}, 100), ({"a": 25}, 400), (160, 10), id="300 more, and 20 begun"),
        pytest.param(({"a": 5}, 100), ({"a": 5}, 40), (0, 0), id="a purged queue is no arrival"),
        pytest.param(
            ({"a": 5}, 0), ({"a": 5, "b": 900}, 0), (0, 0), id="a worker first heard late adds nothing"
        ),
        pytest.param(({"a": 50}, 0), ({"a": 4}, 0), (2, 2), id="a worker that started anew counts from 0"),
        pytest.param(
            ({"a": 50, "b": 9}, 9), ({"a": 54}, 9), (2, 2), id="one that is gone takes nothing back"
        ),
    ],
)
def test_rates_of_two_ticks(
    before: tuple[dict[str, int], int], after: tuple[dict[str, int], int], expected: tuple[float, float]
) -> None:
    assert rates(run(before, after)) == expected


def test_a_worker_heard_from_its_start_counts_whole() -> None:
    """What it had begun before its first heartbeat came was begun in our time."""
    assert rates(run(({"a": 5}, 8), ({"a": 5, "b": 8}, 0), new=("b",))) == (0, 4)


def test_rates_settle_and_never_flicker() -> None:
    """Heartbeats that carry 40 tasks every other tick are 10 a second, not 20 and 0."""
    ticks = [({"a": 40 * (number // 2)}, 0) for number in range(100)]

    come, begun = rates(run(*ticks))

    assert come == begun == pytest.approx(10, abs=1)


def test_unknown_is_not_zero() -> None:
    """A read that failed or a silent worker leave no rate; two good ticks make one again."""
    known = ({"a": 5}, 100), ({"a": 25}, 80)

    assert rates(run(*known, ({"a": 45}, None))) == (None, None)
    assert rates(run(*known, complete=False)) == (None, None)
    assert rates(run(*known, ({"a": 45}, None), ({"a": 65}, 40))) == (None, None)
    assert rates(run(*known, ({"a": 45}, None), ({"a": 65}, 40), ({"a": 75}, 30))) == (0, 5)
    assert run(*known, ({"a": 45}, None)).begun == 40


def test_a_pool_without_workers_still_sees_what_comes() -> None:
    assert rates(run(({}, 0), ({}, 30))) == (15, 0)
