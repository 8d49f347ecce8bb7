"""What a race showed, as a table: one policy a line, what nobody reached as a dash."""

from __future__ import annotations

from collections.abc import Sequence

from scaler.simulate.race import Run

HEAD = (
    "POLICY",
    "WAIT P50",
    "WAIT P95",
    "POD-SECONDS",
    "REVERSALS",
    "BUSY REMOVED",
    "KILLED",
    "TO MAX",
    "TO DRAIN",
    "TO MIN",
    "NOT DONE",
)
"""Times in seconds. Pod-seconds are counted for all until the last of them is done."""


def table(runs: Sequence[Run]) -> list[str]:
    horizon = max((run.seconds for run in runs), default=0.0)
    cells = [HEAD, *(_cells(run, horizon) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:{'<' if place == 0 else '>'}{widths[place]}}" for place, cell in enumerate(line)
        ).rstrip()
        for line in cells
    ]


def _cells(run: Run, horizon: float) -> tuple[str, ...]:
    return (
        run.contender.name,
        _seconds(run.wait(0.5)),
        _seconds(run.wait(0.95)),
        f"{run.pod_seconds(horizon):,.0f}",
        str(run.reversals),
        str(run.course.removed_busy),
        str(run.course.killed),
        _seconds(run.to_maximum),
        _seconds(run.to_drain),
        _seconds(run.to_minimum),
        str(run.unfinished),
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.1f}"
