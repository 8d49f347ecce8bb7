"""The decisions of one pool that changed something, each with its arithmetic, the newest last.

It owns what counts as a change and how few bytes one entry takes: the steps are kept as compressed JSON,
since most are never opened. It reads no clock; how many entries there may be is said by `scaler.web.board`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec

from scaler.pool import trace
from scaler.pool.decision import Decision
from scaler.pool.drain import DrainReason
from scaler.pool.state import State, state_of
from scaler.pool.status import Report

_TAKING_BACK = {DrainReason.TAKEN_BACK, DrainReason.DEADLINE}


@dataclass(slots=True, kw_only=True)
class Entry:
    number: int
    """Counts on as long as the pool is followed."""
    at: float
    state: State
    ready: str
    reason: str
    message: str
    before: int | None
    """Replicas that the Deployment asked for."""
    after: int | None
    """Replicas that were decided."""
    leaving: tuple[str, ...]
    scaled: tuple[int, int] | None
    """From and to, where the replicas were written in this tick."""
    shadow: bool
    steps: bytes

    def document(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at": self.at,
            "state": self.state,
            "ready": self.ready,
            "reason": self.reason,
            "message": self.message,
            "specReplicas": self.before,
            "desiredReplicas": self.after,
            "leaving": self.leaving,
            "scaled": None if self.scaled is None else {"from": self.scaled[0], "to": self.scaled[1]},
            "shadow": self.shadow,
            "steps": msgspec.Raw(zlib.decompress(self.steps)),
        }


class Logbook:
    __slots__ = ("_entries", "_number", "_told", "_with_workers")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._number = 0
        self._told: object = None
        self._with_workers: frozenset[str] = frozenset()
        """Who leaves, and what else goes on with workers."""

    def tell(
        self,
        at: float,
        report: Report,
        spec_replicas: int | None,
        scaled: tuple[int, int] | None,
        *,
        most: int,
    ) -> None:
        """One tick; an entry where it decided something else, or workers begin to leave or are taken back."""
        decision, leaving = report.decision, tuple(victim.pod for victim in report.drain.leaving)
        after = decision.desired_replicas if decision else None
        news = (report.news, after, spec_replicas if scaled is None else scaled[1])
        with_workers = frozenset(leaving) | {report.drain.reason} & _TAKING_BACK
        begun = with_workers - self._with_workers
        same = news == self._told and not begun and scaled is None
        self._told, self._with_workers = news, with_workers
        if same:
            return
        self._number += 1
        self._entries.append(
            Entry(
                number=self._number,
                at=at,
                state=state_of(report),
                ready=report.ready,
                reason=decision.reason if decision else report.ready,
                message=decision.message if decision else report.ready_message,
                before=spec_replicas,
                after=after,
                leaving=leaving,
                scaled=scaled,
                shadow=report.shadow,
                steps=zlib.compress(steps_of(decision)),
            )
        )
        del self._entries[: max(0, len(self._entries) - most)]

    def since(self, at: float | None = None) -> list[dict[str, Any]]:
        """Entries after this time, or all, the newest first."""
        return [entry.document() for entry in reversed(self._entries) if at is None or entry.at > at]


def steps_of(decision: Decision | None) -> bytes:
    return msgspec.json.encode(trace.document(decision.steps) if decision else [])
