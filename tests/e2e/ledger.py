"""Owns the verdict over a ledger: which published tasks were lost, killed or repeated.

The lines are written by `sample_app.ledger`, outside broker and result backend. It knows nothing of
Celery: a start without its finish is a task that was cut off, whatever the broker did about it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Task ids, sorted; all empty but `finished` is what must come out."""

    finished: int
    """Published tasks with at least one finish."""
    lost: tuple[str, ...]
    """Published and never finished."""
    killed: tuple[str, ...]
    """Started more often than finished: a worker was cut off in the middle."""
    repeated: tuple[str, ...]
    """Finished more than once."""
    unpublished: tuple[str, ...]
    """In the ledger and never published: the ledger of something else."""


def judge(published: Iterable[str], lines: Iterable[str]) -> Verdict:
    wanted = set(published)
    starts: Counter[str] = Counter()
    finishes: Counter[str] = Counter()
    for line in lines:
        entry = json.loads(line)
        (starts if entry["event"] == "start" else finishes)[entry["id"]] += 1
    return Verdict(
        finished=len(wanted & finishes.keys()),
        lost=tuple(sorted(wanted - finishes.keys())),
        killed=tuple(sorted(task for task, count in starts.items() if count > finishes[task])),
        repeated=tuple(sorted(task for task, count in finishes.items() if count > 1)),
        unpublished=tuple(sorted((starts | finishes).keys() - wanted)),
    )
