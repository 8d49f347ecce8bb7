"""Owns the picture that stays: the tasks as an area over the workers as steps, on one axis of time.

Each column is the last look until the end of its share of the time. Where the number of tasks was unknown
the area has a gap with a dot on the ground, never a zero.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from demo.screen import Sight

WIDTH: Final = 92
"""Columns at most; in a narrower terminal as many as it has, for a line that wraps is no picture."""
HEIGHT: Final = 8
"""Rows of the area; the steps have one for each number of workers."""
GUTTER: Final = 10
LEAST: Final = 24
"""Columns of the picture itself, however narrow the terminal."""
BETWEEN_TIMES: Final = 12
EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
LEVEL: Final = "─"
UP: Final = "╯╭"
DOWN: Final = "╮╰"
"""A step's two corners: at the height that it leaves, and at the one that it reaches."""


def timeline(looks: Sequence[tuple[float, Sight]]) -> str:
    """`looks` are seconds since the beginning with what was seen then, in order; at least one."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    columns = _columns(looks, max(LEAST, width - GUTTER))
    lines = (
        *_area([sight.waiting for sight in columns]),
        *_steps([sight.replicas for sight in columns]),
        *_axis(len(columns), looks[-1][0]),
    )
    return "\n".join(line.rstrip() for line in lines)


def _columns(looks: Sequence[tuple[float, Sight]], count: int) -> list[Sight]:
    columns, later = [], list(looks)
    sight = looks[0][1]
    for column in range(1, count + 1):
        while later and later[0][0] <= looks[-1][0] * column / count:
            sight = later.pop(0)[1]
        columns.append(sight)
    return columns


def _area(waiting: Sequence[int | None]) -> Iterator[str]:
    highest = max((count for count in waiting if count is not None), default=0)
    for row in reversed(range(HEIGHT)):
        label = f"{highest:,}" if row == HEIGHT - 1 else "tasks" if row == HEIGHT - 2 else ""
        yield _row(label, (_cell(count, highest, row) for count in waiting))


def _cell(count: int | None, highest: int, row: int) -> str:
    if count is None:
        return "·" if row == 0 else " "
    eighths = -(-count * HEIGHT * 8 // max(highest, 1))
    return EIGHTHS[min(8, max(0, eighths - row * 8))]


def _steps(replicas: Sequence[int]) -> Iterator[str]:
    before_and_after = list(pairwise([replicas[0], *replicas]))
    for height in range(max(replicas), min(replicas) - 1, -1):
        label = f"workers {height}" if height == max(replicas) else str(height)
        yield _row(label, (_step(before, after, height) for before, after in before_and_after))


def _step(before: int, after: int, height: int) -> str:
    if before == after:
        return LEVEL if after == height else " "
    left, reached = UP if after > before else DOWN
    if height in (before, after):
        return left if height == before else reached
    return "│" if min(before, after) < height < max(before, after) else " "


def _axis(count: int, seconds: float) -> Iterator[str]:
    starts = range(0, count, BETWEEN_TIMES)
    times = [round(start / count * seconds) for start in starts]
    yield f"{'':{GUTTER - 1}}└" + "".join("┬" if column in starts else LEVEL for column in range(count))
    clocks = "".join(f"{time // 60}:{time % 60:02d}".ljust(BETWEEN_TIMES) for time in times)
    yield f"{'':{GUTTER}}{clocks}"


def _row(label: str, cells: Iterator[str]) -> str:
    return f"{label:>{GUTTER - 1}}┤{''.join(cells)}"
