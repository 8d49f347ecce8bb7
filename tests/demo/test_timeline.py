"""The picture at the end of `make demo`, as a person sees it."""

from __future__ import annotations

import pytest

from demo import timeline as pictures
from demo.screen import Sight
from demo.timeline import timeline


def sight(waiting: int | None, replicas: int) -> Sight:
    return Sight(waiting=waiting, replicas=replicas, ready=replicas, reason="", message="")


FLOOD = [
    (0.0, sight(0, 2)),
    (10.0, sight(28_000, 2)),
    (12.0, sight(27_000, 4)),
    (30.0, sight(14_000, 4)),
    (40.0, sight(None, 4)),
    (45.0, sight(7_000, 4)),
    (60.0, sight(0, 4)),
    (90.0, sight(0, 3)),
    (100.0, sight(0, 2)),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_tasks_are_an_area_and_workers_are_steps() -> None:
    shown = timeline(FLOOD).splitlines()
    rows, area, steps = pictures.HEIGHT, slice(pictures.GUTTER, None), pictures.HEIGHT
    assert all(len(line) <= pictures.WIDTH for line in shown)
    assert len(shown) == rows + len("432") + 2
    assert shown[0].startswith("   28,000┤")
    assert [line[:10] for line in shown[steps:-2]] == ["workers 4┤", "        3┤", "        2┤"]
    assert shown[steps].count("╭") == shown[steps].count("╮") == 1
    ground = shown[rows - 1][area]
    assert "█·" in ground, "where the number is unknown there is a dot, not an empty queue"
    assert "·█" in ground
    assert shown[-1].split() == ["0:00", "0:15", "0:29", "0:44", "0:59", "1:13", "1:28"]


def test_a_fleet_that_nothing_happened_to_is_level() -> None:
    shown = timeline([(0.0, sight(0, 2))]).splitlines()
    assert [line[pictures.GUTTER :] for line in shown[: pictures.HEIGHT]] == [""] * pictures.HEIGHT
    assert set(shown[pictures.HEIGHT][pictures.GUTTER :]) == {"─"}


@pytest.mark.parametrize(
    ("columns", "width"),
    [
        pytest.param("200", 92, id="a wide terminal"),
        pytest.param("80", 80, id="a narrow one"),
        pytest.param("5", 34, id="one in which nothing fits"),
    ],
)
def test_no_line_is_wider_than_the_terminal(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    many = [(float(second), sight(1000, 2)) for second in range(100)]

    assert max(map(len, timeline(many).splitlines())) == width
