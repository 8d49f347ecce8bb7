"""Owns the table of a comparison, for a terminal and as docs/keda.md, whose words are in page.md.

Every row is there whoever wins it; where Celery Fleet is behind is said in words below the table, too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.keda.figures import Figures
from bench.keda.systems import KEDA, KEDA_TUNED, OURS, OURS_TUNED, SYSTEMS

Runs = Mapping[str, Sequence[Figures]]
"""By the system's name."""
NOTHING: Final = "not reached"
WORDS: Final = Path(__file__).with_name("page.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    what: str
    of: Callable[[Figures], float | None]
    more_is_better: bool = False

    def values(self, runs: Sequence[Figures]) -> list[float]:
        """Of the runs in which it came to that."""
        return [value for run in runs if (value := self.of(run)) is not None]

    def cell(self, runs: Sequence[Figures]) -> str:
        values = self.values(runs)
        missing = len(runs) - len(values)
        if not values:
            return NOTHING
        text = _number(statistics.median(values))
        if len(values) > 1:
            text += f" ({_number(min(values))} to {_number(max(values))})"
        return f"{text}, {NOTHING} {missing} x" if missing else text

    def is_behind(self, ours: Sequence[Figures], theirs: Sequence[Figures]) -> bool:
        """By the medians as they are shown."""
        mine, other = self.values(ours), self.values(theirs)
        if not mine or not other:
            return len(mine) < len(other)
        a, b = (float(_number(statistics.median(values)).replace(",", "")) for values in (mine, other))
        return a < b if self.more_is_better else a > b


def _other(name: str) -> Callable[[Figures], float | None]:
    return lambda run: run.others.get(name)


def _after_last(run: Figures) -> float | None:
    return None if run.back is None or run.done is None else run.back - run.done


FLOOD_ROWS: Final = (
    Row(what="first scale-up, s", of=lambda run: run.first_up),
    Row(what="4 workers ready, s", of=lambda run: run.at_most),
    Row(what="all 30,000 tasks done, s", of=lambda run: run.done),
    Row(what="from there to 2 pods again, s", of=_after_last),
    Row(what="pod-seconds until then", of=lambda run: run.pod_seconds),
    Row(what="memory of the scaler, MB", of=_other("megabytes")),
)
LONG_ROWS: Final = (
    Row(what="first scale-up, s", of=lambda run: run.first_up),
    Row(what="8 workers ready, s", of=lambda run: run.at_most),
    Row(what="last task to finish, s", of=lambda run: run.done),
    Row(what="tasks finished, of 24", of=_other("finished"), more_is_better=True),
    Row(what="tasks killed by scale-in", of=_other("killed")),
    Row(what="tasks not done when it was over", of=_other("undone")),
    Row(what="1 pod again, s", of=lambda run: run.back),
    Row(what="pod-seconds until both", of=lambda run: run.pod_seconds),
)
PARTS: Final = (("Flood", FLOOD_ROWS), ("Long tasks", LONG_ROWS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    date: str
    machine: str
    versions: str
    repeats: int
    flood: Runs
    long: Runs

    def rows(self) -> list[list[str]]:
        names = [system.name for system in SYSTEMS]
        rows = [["", *names]]
        for (part, row), runs in self._all():
            rows.append([f"{part}: {row.what}", *(row.cell(runs[name]) for name in names)])
        return rows

    def behind(self) -> list[str]:
        """The rows in which Celery Fleet is behind the KEDA of its kind."""
        return [
            f"{part}: {row.what} ({ours.name} {row.cell(runs[ours.name])}, {theirs.name} "
            f"{row.cell(runs[theirs.name])})"
            for (part, row), runs in self._all()
            for ours, theirs in ((OURS, KEDA), (OURS_TUNED, KEDA_TUNED))
            if row.is_behind(runs[ours.name], runs[theirs.name])
        ]

    def _all(self) -> list[tuple[tuple[str, Row], Runs]]:
        runs = {"Flood": self.flood, "Long tasks": self.long}
        return [((part, row), runs[part]) for part, rows in PARTS for row in rows]

    def terminal(self) -> str:
        rows = self.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def markdown(self) -> str:
        head, *body = [f"| {' | '.join(row)} |" for row in self.rows()]
        rule = f"| --- |{' ---: |' * len(SYSTEMS)}"
        behind = "\n".join(f"- {line}." for line in self.behind()) or "- In none."
        return WORDS.read_text().format(
            date=self.date,
            machine=self.machine,
            versions=self.versions,
            how="one run of each"
            if self.repeats == 1
            else f"the median of {self.repeats} runs (least to most)",
            table="\n".join([head, rule, *body]),
            behind=behind,
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"
