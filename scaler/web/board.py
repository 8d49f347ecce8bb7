"""What the page knows: the last word about every pool, its last hour, and how broker and cluster are.

It owns how much is kept, in bytes that do not grow with time and hardly with the number of pools, and who is
told of a new tick. It is fed by `scaler.telemetry` and never asks anybody: a page that is open costs the
Kubernetes API and the broker nothing. It reads no clock.

What is made of it for a browser is in `scaler.web.documents`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import Deployment
from scaler.contract import Policy
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.web.logbook import Logbook
from scaler.web.track import Marks, Track

POINTS: Final = 300_000
"""Points of all charts together, at 12 bytes each; and at most as many marks, at 16."""
MOST_POINTS: Final = 1_800
"""Of one pool: an hour of ticks 2 s apart."""
ENTRIES: Final = 4_000
"""Entries of all logbooks together, at about 1 kB each."""
MOST_ENTRIES: Final = 100
LEAST_ENTRIES: Final = 4
READS: Final = 150
"""Reads of the broker that its latency is told by: five minutes."""
PATIENCE_POLLS: Final = 5
PATIENCE_SECONDS: Final = 10.0
GONE: Final = 1_000
"""Names of removed pools that are remembered for those who watch."""


@dataclass(slots=True)
class Followed:
    """One pool."""

    name: str
    policy: Policy | None
    report: Report
    deployment: Deployment | None
    settings: str | None = None
    """Where the stack's configuration has its settings (`scaler.contract.SETTINGS_ANNOTATION`)."""
    track: Track = field(default_factory=Track)
    marks: Marks = field(default_factory=Marks)
    logbook: Logbook = field(default_factory=Logbook)
    judged: bool = False
    """In this tick."""
    scaled: tuple[int, int] | None = None
    """From and to, in this tick."""


class Board:
    def __init__(self, namespace: str, poll_seconds: float, *, patience_seconds: float = 0) -> None:
        self.namespace = namespace
        self.poll_seconds = poll_seconds
        self.patience_seconds = patience_seconds or max(PATIENCE_SECONDS, PATIENCE_POLLS * poll_seconds)
        """Age from which what is shown counts as stale."""
        self.pools: dict[str, Followed] = {}
        self.gone: deque[tuple[int, str]] = deque(maxlen=GONE)
        """Number of the tick, and the pool that was no more in it."""
        self.turn = 0
        """Number of the last tick."""
        self.at: float | None = None
        """When the last tick began."""
        self.seconds = 0.0
        """How long it took."""
        self.good_at: float | None = None
        """When the last one began that could read all."""
        self.trouble: str | None = None
        """Why the last one could not."""
        self.leading = False
        self.broker_failure: str | None = None
        self.reads: deque[float] = deque(maxlen=READS)
        """Seconds."""
        self._turned = asyncio.Event()

    def judged(self, pool: Pool, report: Report, deployment: Deployment | None) -> None:
        followed = self.pools.get(pool.name)
        if followed is None:
            followed = self.pools[pool.name] = Followed(pool.name, pool.policy, report, deployment)
        followed.policy, followed.report, followed.deployment = pool.policy, report, deployment
        followed.settings = pool.celery.settings
        followed.judged = True

    def scaled(self, pool: Pool, before: int, after: int) -> None:
        if followed := self.pools.get(pool.name):
            followed.scaled = (before, after)

    def forgot(self, name: str) -> None:
        if self.pools.pop(name, None) is not None:
            self.gone.append((self.turn + 1, name))

    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None:
        self.reads.append(seconds)
        self.broker_failure = backlog.sentence if isinstance(backlog, BrokerFailure) else None

    def ticked(self, at: float, *, seconds: float, trouble: str | None, leading: bool) -> None:
        """The tick that began at this time is over: keep what it found, and tell who waits."""
        self.at, self.seconds, self.trouble, self.leading = at, seconds, trouble, leading
        if trouble is None:
            self.good_at = at
        many = max(1, len(self.pools))
        points = min(MOST_POINTS, POINTS // many)
        entries = max(LEAST_ENTRIES, min(MOST_ENTRIES, ENTRIES // many))
        for followed in self.pools.values():
            self._keep(followed, at, points=points, entries=entries)
        self.turn += 1
        self._turned.set()
        self._turned = asyncio.Event()

    async def turned(self) -> None:
        """Return after the next tick."""
        await self._turned.wait()

    def _keep(self, followed: Followed, at: float, *, points: int, entries: int) -> None:
        report, deployment = followed.report, followed.deployment
        judged, followed.judged = followed.judged, False
        scaled, followed.scaled = followed.scaled, None
        decision = report.decision if judged else None
        followed.track.add(
            at,
            demand=report.demand.low if judged and report.demand.high is not None else None,
            desired=decision.desired_replicas if decision else None,
            ready=deployment.ready_replicas if judged and deployment else None,
            longest_gap=self.patience_seconds,
            most=points,
        )
        followed.marks.add(at, scaled, most=points)
        if judged:
            spec = deployment.spec_replicas if deployment else None
            followed.logbook.tell(at, report, spec, scaled, most=entries)
