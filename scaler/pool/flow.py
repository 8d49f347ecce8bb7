"""How fast tasks come and how fast they are worked off.

It owns the two rates. No broker tells how many messages came, only how many there are; but each worker says
with its heartbeat how many tasks it has begun since its start (celery/worker/state.py, task_accepted). What
was begun, and by how much the demand grew nevertheless, is what came. Nothing is decided by these rates:
they are for people. It talks to nobody and reads no clock.

`scaler.pool.pool` keeps a `Flow` from tick to tick.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

SMOOTHING_SECONDS: Final = 15.0
"""Time constant of the average. Heartbeats and polls are 2 s apart, not in step: a shorter one flickers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    at: float | None = None
    """When all was known last; rates go on from there."""
    demand: int = 0
    begun: int = 0
    """Tasks that workers have begun since the pool is followed."""
    by_pod: Mapping[str, int] = field(default_factory=dict)
    """What each worker said last."""
    heard: bool = False
    """Whether any worker has ever said anything."""
    arrivals_per_second: float | None = None
    begun_per_second: float | None = None

    def after(
        self, said: Mapping[str, int], *, new: Collection[str], demand: int | None, complete: bool, at: float
    ) -> Flow:
        """One tick later: what workers say they have begun, by pod.

        `new` are those heard of since their start: all that they have begun counts. `complete` is whether
        everybody spoke who could; where somebody did not, or the demand is not known, neither are the rates.
        """
        begun = self.begun + sum(self._more(pod, count, pod in new) for pod, count in said.items())
        later = replace(self, begun=begun, by_pod=dict(said), heard=self.heard or bool(said))
        if demand is None or not complete:
            return replace(later, at=None, arrivals_per_second=None, begun_per_second=None)
        if self.at is None or at <= self.at:
            return replace(later, at=at, demand=demand)
        return replace(
            later,
            at=at,
            demand=demand,
            begun_per_second=_smooth(self.begun_per_second, begun - self.begun, at - self.at),
            arrivals_per_second=_smooth(
                self.arrivals_per_second, max(0, demand - self.demand + begun - self.begun), at - self.at
            ),
        )

    def _more(self, pod: str, count: int, new: bool) -> int:
        before = self.by_pod.get(pod)
        if before is None:
            return count if new else 0
        # A worker that started anew in its pod counts from 0.
        return count - before if count >= before else count


def _smooth(before: float | None, change: int, seconds: float) -> float:
    rate = change / seconds
    if before is None:
        return rate
    return before + (rate - before) * (1 - math.exp(-seconds / SMOOTHING_SECONDS))
