"""The picture of a race: what was to do, and how many workers were asked for, on one time axis.

It owns the drawing and the only import of matplotlib, which is a development dependency and not in the
scaler's image: who has none is told so before anything is simulated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from scaler.simulate.race import Run
from scaler.simulate.words import Impossible

FORMATS: Final = (".svg", ".png")
POINTS: Final = 600
"""Of a line: more than a screen shows is only a large file."""


def check(path: Path) -> None:
    """Raises Impossible where nothing could be drawn there."""
    if path.suffix not in FORMATS:
        raise Impossible(f"--chart {path}: the name must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise Impossible(f"--chart {path}: there is no folder {path.parent}")
    if find_spec("matplotlib") is None:
        raise Impossible("--chart needs matplotlib: pip install -r requirements-dev.txt")


def draw(path: Path, title: str, runs: Sequence[Run]) -> None:
    """The same runs give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    until = max(run.seconds for run in runs)
    times = [until * number / POINTS for number in range(POINTS + 1)]
    with mpl.rc_context({"svg.hashsalt": "celery-fleet"}):
        figure = Figure(figsize=(9, 5.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for run in runs:
            upper.plot(times, _at(run.course.demand, times), label=run.contender.name, linewidth=1.3)
            lower.step(
                times,
                _at(run.course.replicas, times),
                where="post",
                label=run.contender.name,
                linewidth=1.5,
            )
        upper.set(title=title, ylabel="tasks to do")
        lower.set(ylabel="replicas", xlabel="seconds", xlim=(0, until), ylim=(0, None))
        upper.set_ylim(bottom=0)
        lower.locator_params(axis="y", integer=True)
        upper.legend()
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
        # SVG would carry the day it was made.
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata, dpi=120)


def _at(changes: Sequence[tuple[float, int]], times: Sequence[float]) -> list[int]:
    """The value that stands at each of these times."""
    moments = [at for at, _ in changes]
    return [changes[max(0, bisect_right(moments, at) - 1)][1] for at in times]
