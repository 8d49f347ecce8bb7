"""One load under one policy after the other, until each has done it and is back at its fewest workers.

It owns the alternation of model and autoscaler, when a replay ends, and the figures of one. The same seed
gives the same figures, to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from scaler.simulate.contender import Contender
from scaler.simulate.load import Load
from scaler.simulate.site import Course, Site, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A replay; times in seconds, None for what never came."""

    contender: Contender
    course: Course
    seconds: float
    """From the load's begin to the replay's end."""
    waits: Sequence[float]
    """From a task's arrival until it was taken (for the last time, where its worker was killed), sorted."""
    lives: Sequence[tuple[float, float]]
    """When each pod was made and when it was gone; infinity where it still is."""
    unfinished: int
    to_maximum: float | None
    """From the first task until as many workers as there may be take tasks."""
    to_drain: float | None
    """From the last task's arrival until all is done."""
    to_minimum: float | None
    """From then until the replicas are at the minimum."""

    def wait(self, share: float) -> float:
        """The waiting time that this share of the tasks did not exceed."""
        return self.waits[max(0, math.ceil(share * len(self.waits)) - 1)] if self.waits else math.nan

    def pod_seconds(self, until: float) -> float:
        """With those that stay until then, so that runs of different length compare."""
        return sum(max(0.0, min(gone, until) - made) for made, gone in self.lives)

    @property
    def reversals(self) -> int:
        """How often growing turned into shrinking or back."""
        ways = [after > before for (_, before), (_, after) in pairwise(self.course.replicas)]
        return sum(earlier != later for earlier, later in pairwise(ways))


def race(
    load: Load, contenders: Sequence[Contender], workers: Workers, *, seed: int, replicas: int | None = None
) -> list[Run]:
    """Every contender on its own, with the same load. `replicas` are there at first, else the minimum."""
    return [_replay(load, contender, workers, seed=seed, replicas=replicas) for contender in contenders]


def _replay(load: Load, contender: Contender, workers: Workers, *, seed: int, replicas: int | None) -> Run:
    policy = contender.policy
    begin = min(max(replicas or 0, policy.min_replicas), policy.max_replicas)
    site = Site(load, replace(workers, slots=policy.concurrency), begin)
    autoscaler = contender.autoscaler(Random(seed))
    last = load.arrivals[-1] if load.arrivals else 0.0
    finished, progress_at = 0, last
    # A task of a killed worker comes back after the timeout; who has done nothing for twice that never will.
    patience = 2 * workers.visibility_seconds
    while True:
        site.advance(autoscaler.next_at)
        site.course.demand.append((site.now, site.queued + site.unacked))
        autoscaler.act(site)
        if site.finished > finished:
            finished, progress_at = site.finished, max(last, site.now)
        if site.all_done:
            least = site.spec <= policy.min_replicas and not any(pod.terminating for pod in site.pods)
            if least or site.now > max(progress_at, site.course.replicas[-1][0]) + contender.longest_wait:
                return _run(load, contender, site)
        elif site.now > progress_at + patience:
            return _run(load, contender, site)


def _run(load: Load, contender: Contender, site: Site) -> Run:
    course, policy = site.course, contender.policy
    first, last = (load.arrivals[0], load.arrivals[-1]) if load.arrivals else (0.0, 0.0)
    all_done = max(site.done, default=0.0) if site.all_done else None
    full = next((at for at, taking in course.workers if taking >= policy.max_replicas and at >= first), None)
    back = None
    if all_done is not None and course.replicas[-1][1] <= policy.min_replicas:
        back = max(0.0, course.replicas[-1][0] - all_done)
    starts = zip(site.started, load.arrivals, site.done, strict=True)
    return Run(
        contender=contender,
        course=course,
        seconds=site.now,
        waits=sorted(start - arrival for start, arrival, done in starts if not math.isnan(done)),
        lives=[(pod.created_at, pod.gone_at) for pod in (*site.past, *site.pods)],
        unfinished=len(site.done) - site.finished,
        to_maximum=None if full is None else full - first,
        to_drain=None if all_done is None else all_done - last,
        to_minimum=back,
    )
