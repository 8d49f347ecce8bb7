"""The last hour of a pool in few bytes: what is kept, what is merged, and what is never made up."""

from __future__ import annotations

import pytest

from scaler.web.track import HOUR_SECONDS, Marks, Track
from tests.scaler.samples import AT


def track(*demands: int | None, most: int = 100, step: float = 2, gap: float = 10) -> Track:
    """Ticks `step` seconds apart; the replicas follow nothing."""
    made = Track()
    for number, demand in enumerate(demands):
        made.add(AT + step * number, demand=demand, desired=4, ready=2, longest_gap=gap, most=most)
    return made


def points(made: Track) -> list[tuple[float, int | None]]:
    """(seconds since the first tick, demand)."""
    found = made.since()
    return list(zip([round(at - AT, 1) for at in found["at"]], found["demand"], strict=True))


def test_a_point_is_made_where_something_changed() -> None:
    """A pool that sleeps costs nothing, and the last point holds until the last tick."""
    made = track(0, 0, 0, 7, 7, 0)

    assert points(made) == [(0, 0), (6, 7), (10, 0)]
    assert made.since() == {
        "at": [AT, AT + 6, AT + 10],
        "demand": [0, 7, 0],
        "desired": [4, 4, 4],
        "ready": [2, 2, 2],
        "until": AT + 10,
    }


def test_what_is_not_known_is_kept_as_that() -> None:
    assert points(track(5, None, None, 5)) == [(0, 5), (2, None), (6, 5)]


def test_a_time_in_which_nobody_looked_is_not_known() -> None:
    """A scaler that stood still for a minute did not see a minute of 5."""
    made = track(5, 5)
    made.add(AT + 62, demand=5, desired=4, ready=2, longest_gap=10, most=100)

    assert points(made) == [(0, 5), (2, None), (62, 5)]


def test_a_clock_that_goes_back_adds_nothing() -> None:
    made = track(5, 6)
    made.add(AT - 100, demand=9, desired=4, ready=2, longest_gap=10, most=100)

    assert points(made) == [(0, 5), (2, 6)]


def test_only_what_is_new_is_sent_again() -> None:
    found = track(1, 2, 3).since(AT + 2)

    assert (found["at"], found["demand"], found["until"]) == ([AT + 4], [3], AT + 4)


def test_more_points_than_may_be_lose_detail_and_no_peak() -> None:
    """An hour of a queue that never rests: few points, the whole hour, and every flood at its height."""
    demands = [number % 10 for number in range(1800)]
    demands[400] = demands[1700] = 5000
    made = track(*demands, most=120)

    kept = points(made)
    assert len(kept) <= 120
    assert kept[0][0] < 60
    assert kept[-1] == (3598, 9)
    assert sum(demand == 5000 for _, demand in kept) == 2
    assert [at for at, _ in kept] == sorted(at for at, _ in kept)


def test_merging_neither_hides_nor_spreads_what_is_not_known() -> None:
    """A minute of outage stays a minute of outage, however often neighbours are merged."""
    demands: list[int | None] = [number % 7 for number in range(600)]
    demands[100:130] = [None] * 30
    kept = points(track(*demands, most=80))

    begin = next(index for index, (_, demand) in enumerate(kept) if demand is None)
    assert kept[begin][0] == 200
    assert kept[begin + 1][0] == 260
    assert sum(demand is None for _, demand in kept) == 1


def test_points_that_cannot_be_merged_are_still_bounded() -> None:
    """Known and not known in turn: the oldest go."""
    kept = points(track(*([5, None] * 300), most=80))

    assert len(kept) <= 80
    assert kept[-1] == (1198, None)


def test_an_hour_is_kept() -> None:
    """What ended more than an hour ago is dropped; the point that still held then stays."""
    made = track(*(number // 30 for number in range(4000)), most=1800)
    first = points(made)[0][0]

    assert 7998 - 3600 - 130 <= first <= 7998 - 3600


@pytest.mark.parametrize(
    ("demands", "expected"),
    [
        pytest.param([3, 9, 2], [None, None, None, 9], id="a young pool has only the newest of ten minutes"),
        pytest.param([7] * 150 + [2] * 451, [7, 2, 2, 2], id="after twenty minutes all of them are shown"),
        pytest.param([1] * 900 + [8] + [0] * 900, [1, 1, 8, 0], id="each piece has its highest"),
        pytest.param([5] * 900 + [None] * 901, [5, 5, None, None], id="an unknown half hour is not drawn"),
    ],
)
def test_peaks_of_the_hour(demands: list[int | None], expected: list[int | None]) -> None:
    assert track(*demands, most=1800).peaks(AT + 2 * (len(demands) - 1), 4) == expected


def test_a_pool_that_was_never_looked_at_has_no_past() -> None:
    assert Track().since() == {"at": [], "demand": [], "desired": [], "ready": [], "until": None}
    assert Track().peaks(AT, 2) == [None, None]


def marks(*times: float, most: int = 100) -> Marks:
    made = Marks()
    for number, at in enumerate(times):
        made.add(AT + at, (number, number + 1), most=most)
    return made


def test_marks_are_kept_for_an_hour_and_no_longer() -> None:
    made = marks(0, 2, 1800)
    assert made.since() == {"at": [AT, AT + 2, AT + 1800], "from": [0, 1, 2], "to": [1, 2, 3]}
    made.add(AT + HOUR_SECONDS + 1, None, most=100)

    assert made.since() == {"at": [AT + 2, AT + 1800], "from": [1, 2], "to": [2, 3]}
    assert made.since(AT + 2) == {"at": [AT + 1800], "from": [2], "to": [3]}


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        pytest.param(marks(0, 2, 4, 6, most=2), [4, 6], id="no more than may be, the newest"),
        pytest.param(marks(0, 100, 50), [0, 100], id="none from a clock that was set back"),
    ],
)
def test_marks_have_a_bound(made: Marks, kept: list[float]) -> None:
    assert [at - AT for at in made.since()["at"]] == kept
