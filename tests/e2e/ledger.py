"""Owns the verdict over a ledger: which published tasks were lost, killed or repeated.

The lines are written by `sample_app.ledger`, outside broker and result backend. It knows nothing of
Celery: a start without its finish is a task that was cut off, whatever the broker did about it. The verdict
holds once nothing runs any more; before that, what still runs looks killed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line."""

    event: str
    """published, start or finish."""
    task: str
    attempt: str
    """One run of a task: a redelivered task, and a retried one, starts a new one. Empty for published."""
    pod: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Task ids, sorted; all empty but `finished` is what must come out."""

    finished: int
    """Published tasks with at least one finish."""
    lost: tuple[str, ...]
    """LOST = published - finished: accepted by the broker, and no attempt has finished."""
    killed: tuple[str, ...]
    """KILLED = starts without a finish of the same attempt, one entry for each: a worker was cut off in the
    middle, even if another attempt has finished since."""
    repeated: tuple[str, ...]
    """DUP = distinct attempts started - distinct ids started, one entry for each attempt beyond the first,
    whether that one was killed or has finished."""
    unpublished: tuple[str, ...]
    """Started and never published: the ledger of something else, or a publish that failed halfway."""

    @property
    def published(self) -> int:
        return self.finished + len(self.lost)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.killed or self.repeated or self.unpublished)

    def __str__(self) -> str:
        counts = f"{self.finished} finished, LOST {len(self.lost)}, KILLED {len(self.killed)}, "
        return counts + f"DUP {len(self.repeated)}"


def entries_of(lines: Iterable[str]) -> list[Entry]:
    return [
        Entry(
            event=line["event"],
            task=line["id"],
            attempt=line.get("attempt", ""),
            pod=line["pod"],
            at=line["at"],
        )
        for line in map(json.loads, lines)
    ]


def published_in(entries: Iterable[Entry], batch: str = "") -> set[str]:
    """The tasks that the producer has recorded as published; with a batch, only those of it."""
    start = f"{batch}-" if batch else ""
    return {entry.task for entry in entries if entry.event == "published" and entry.task.startswith(start)}


def judge(published: Collection[str], entries: Iterable[Entry]) -> Verdict:
    """The verdict over `published`. Entries of other tasks count as unpublished."""
    wanted = set(published)
    started: dict[str, str] = {}
    finished: dict[str, str] = {}
    for entry in entries:
        if entry.event == "start":
            started[entry.attempt] = entry.task
        elif entry.event == "finish":
            finished[entry.attempt] = entry.task
    runs = Counter(started.values())
    done = set(finished.values())
    return Verdict(
        finished=len(wanted & done),
        lost=tuple(sorted(wanted - done)),
        killed=tuple(sorted(started[attempt] for attempt in started.keys() - finished.keys())),
        repeated=tuple(sorted((runs - Counter(runs.keys())).elements())),
        unpublished=tuple(sorted((runs.keys() | done) - wanted)),
    )


def of_batch(entries: Iterable[Entry], batch: str) -> list[Entry]:
    return [entry for entry in entries if entry.task.startswith(f"{batch}-")]


def running_at(entries: Iterable[Entry], at: float) -> dict[str, set[str]]:
    """The tasks that ran at a moment, by pod. An attempt that never finished ran to the pod's end."""
    open_: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.at):
        if entry.at > at:
            break
        if entry.event == "start":
            open_[entry.attempt] = entry
        elif entry.event == "finish":
            open_.pop(entry.attempt, None)
    running: dict[str, set[str]] = {}
    for entry in open_.values():
        running.setdefault(entry.pod, set()).add(entry.task)
    return running
