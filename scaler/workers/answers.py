"""What workers say of themselves, asked and unasked; shapes only.

`scaler.workers.control` gets the answers, `scaler.workers.heartbeats` hears the rest; `scaler.pool.crew`
makes one picture of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaler.pool.count import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTasks:
    """What one worker holds. A task that moves while it is asked for is in one place, the later one.

    Left out is what Celery itself cannot see: a prefetched task that waits for its `rate_limit`. It is
    not acknowledged, and goes back to its queue on SIGTERM.
    """

    running: frozenset[str]
    """Task ids."""
    acknowledged: frozenset[str]
    """Of the running ones, those that are in no broker any more; with `acks_late` none."""
    reserved: frozenset[str]
    """Prefetched and due; ids."""
    scheduled: int
    """Prefetched with an ETA; they too go back to their queue on SIGTERM."""
    next_due: float | None
    """The earliest of those ETAs, in seconds since the epoch."""

    def due(self, at: float) -> Count:
        """What the worker still has to do: running, prefetched, and perhaps scheduled tasks now due."""
        held = len(self.running) + len(self.reserved)
        if self.next_due is None or self.next_due > at:
            return Count.exactly(held)
        return Count(held + 1, held + self.scheduled)

    def unacked_due(self, at: float) -> Count:
        """Of those, the ones that the broker still has as delivered."""
        return self.due(at).less(len(self.acknowledged))

    def not_due(self, at: float) -> Count:
        if self.next_due is None or self.next_due > at:
            return Count.exactly(self.scheduled)
        return Count(0, self.scheduled - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The last word of a worker."""

    at: float
    """When it reached us, by our clock: the worker's own may be wrong."""
    active: int
    """Tasks that it runs, acknowledged or not."""
    processed: int
    """Tasks that it took since its process started."""
    offline: bool
    """It said that it goes, as on SIGTERM; `active` tasks may still be running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    since: float | None = None
    """Since when we listen without a break; None while we do not."""
    last: Mapping[str, Heartbeat] = field(default_factory=dict)
    """By node name; from before a break, too."""
    failure: str | None = None
    """Why we do not listen."""

    def silent_seconds(self, node: str, at: float) -> float | None:
        """For how long we listened and this worker said nothing; None while we do not listen."""
        if self.since is None:
            return None
        heartbeat = self.last.get(node)
        return max(0.0, at - (self.since if heartbeat is None else max(self.since, heartbeat.at)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What workers said when they were asked in this tick; all by pod name."""

    asked: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()
    """They said, before they were asked what they hold, that they consume from no queue of the pool."""
    tasks: Mapping[str, HeldTasks] = field(default_factory=dict)
