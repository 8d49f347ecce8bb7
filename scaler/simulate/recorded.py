"""From a recording to a load: when tasks came and how long they took, as far as the ticks tell.

It owns two estimates, by what is conserved:
- Arrivals. Every task that has come is queued, held by a worker, or was taken. So the number that has come is
  queued + unacked + taken, less the running ones where these are among the unacked (acks_late); which of the
  two it is shows in the recording, for arrivals never become fewer. How many were taken is known at each
  heartbeat and taken to grow evenly between two. When within a poll a task came is not known.
- Service. Slots were busy for so many seconds, and so many tasks ended in that time: the ratio is the mean,
  which every task is given. All slots of workers that take tasks count as busy while something is queued,
  so what Celery itself needs between two tasks is part of it. How service times differ is not seen: waiting
  times of a mixed load come out too even.

A recording without heartbeats is refused: it does not tell how many tasks were done.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from scaler.contract import policy_of
from scaler.recording import Recording, Spec, Tick
from scaler.simulate.load import Load
from scaler.simulate.words import Impossible

BEAT_SECONDS: Final = 2.0
NEWCOMER_SECONDS: Final = 5.0
"""A worker that is first heard later than this is new: it has taken nothing before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    load: Load
    spec: Spec
    """Of the pool's object."""
    replicas: int
    """There were, at the begin."""
    start_seconds: float | None
    """From a rise of the replicas until the new workers took tasks, within a poll; None: none rose."""
    risen_at: float | None
    """Seconds from the begin to the first rise of the replicas, within half a poll."""
    to_maximum: float | None
    """As `scaler.simulate.race.Run` has it, within half a poll."""
    to_drain: float | None
    to_minimum: float | None


@dataclass(frozen=True, slots=True)
class _Point:
    """A tick that tells how many tasks had come by then."""

    at: float
    queued: int
    unacked: int
    taken: float
    running: int | None
    capacity: int | None
    replicas: int
    settled: bool
    """No worker takes anything until its next heartbeat, so that `taken` is certain."""

    @property
    def at_rest(self) -> bool:
        return self.queued == self.unacked == self.running == 0


def recorded(recording: Recording, pool: str | None) -> Recorded:
    """Raises Impossible where the recording tells of no load, or of none of this pool."""
    name = _chosen(recording, pool)
    spec, points = recording.specs[name], _points(recording.ticks[name])
    if len(points) < 2:
        raise Impossible(
            f"{name}: no two ticks tell what was queued, held and taken: do its workers send heartbeats?"
        )
    policy = policy_of(spec)
    arrivals = _arrivals(points)
    if not arrivals:
        raise Impossible(f"{name}: no task came while it was recorded")
    service = _service_seconds(name, points)
    begin, most = points[0].at, policy.max_replicas * policy.concurrency
    first, last = begin + arrivals[0], begin + arrivals[-1]
    full = _when(points, [(point.capacity or 0) >= most for point in points], first)
    empty = _when(points, [point.at_rest for point in points], last)
    back = None
    if empty is not None:
        back = _when(points, [point.replicas <= policy.min_replicas for point in points], empty)
    rises = _rises(points)
    return Recorded(
        load=Load(name=f"{name} as recorded", arrivals=arrivals, services=[service] * len(arrivals)),
        spec=spec,
        replicas=points[0].replicas,
        start_seconds=_start_seconds(points, rises, policy.concurrency),
        risen_at=rises[0][0] - begin if rises else None,
        to_maximum=None if full is None else full - first,
        to_drain=None if empty is None else empty - last,
        to_minimum=None if empty is None or back is None else back - empty,
    )


def _chosen(recording: Recording, pool: str | None) -> str:
    names = sorted(recording.specs)
    if pool is None and len(names) == 1:
        return names[0]
    if pool in names:
        return str(pool)
    wanted = "say which with --pool" if pool is None else f"there is no pool {pool} in it"
    raise Impossible(f"the recording: {wanted}; there are {', '.join(names) or 'none'}")


def _points(ticks: Sequence[Tick]) -> list[_Point]:
    taken = _Taken(ticks)
    points = []
    for tick in ticks:
        seen, found = tick.seen, tick.observation
        if found is None or tick.at < taken.since:
            continue
        queued, unacked = found.queued.exact, found.unacked.exact
        if not found.unacked.low:
            # RabbitMQ counts what workers hold and tells nothing else of it: all of it is taken to be due.
            unacked = found.unacked.high
        if queued is not None and unacked is not None:
            until_now = taken.by(tick.at)
            points.append(
                _Point(
                    tick.at,
                    queued,
                    unacked,
                    until_now,
                    seen.running,
                    seen.capacity,
                    found.spec_replicas,
                    settled=taken.by(tick.at + BEAT_SECONDS) == until_now,
                )
            )
    return points


class _Taken:
    """How many tasks the workers had taken at any time, by their heartbeats."""

    def __init__(self, ticks: Sequence[Tick]) -> None:
        beats: dict[str, list[tuple[float, int]]] = {}
        for tick in ticks:
            for pod, beat in tick.seen.beats.items():
                known = beats.setdefault(pod, [])
                if not known or beat.at > known[-1][0]:
                    known.append((beat.at, beat.processed))
        begin = ticks[0].at if ticks else 0.0
        self._workers = [_grown(known, begin) for known in beats.values()]
        # Before the workers that were there at the begin were all heard, some of what they took is missing.
        first = [known[0][0] for known in beats.values() if known[0][0] <= begin + NEWCOMER_SECONDS]
        self.since = max(first, default=begin if beats else float("inf"))

    def by(self, at: float) -> float:
        return sum(_between(times, counts, at) for times, counts in self._workers)


def _grown(beats: Sequence[tuple[float, int]], begin: float) -> tuple[list[float], list[int]]:
    """The times of a worker's heartbeats, and how many tasks it had taken by each since the begin."""
    last = beats[0][1] if beats[0][0] <= begin + NEWCOMER_SECONDS else 0
    total, counts = 0, []
    for _, processed in beats:
        # A worker that restarts counts from 0 again.
        total += processed - last if processed >= last else processed
        last = processed
        counts.append(total)
    return [at for at, _ in beats], counts


def _between(times: Sequence[float], counts: Sequence[int], at: float) -> float:
    after = bisect_right(times, at)
    if after == 0:
        return 0.0
    if after == len(times):
        return counts[-1]
    share = (at - times[after - 1]) / (times[after] - times[after - 1])
    return counts[after - 1] + share * (counts[after] - counts[after - 1])


def _arrivals(points: Sequence[_Point]) -> list[float]:
    """Seconds from the first point. What is there at first counts as having come then."""
    early: list[float] = []
    late: list[float] = []
    running = 0
    for point in points:
        running = running if point.running is None else point.running
        early.append(point.queued + point.unacked + point.taken)
        late.append(early[-1] - running)
    course = _bounded(points, late if _falls(late) < _falls(early) else early)
    earlier = course[0] - points[0].queued - points[0].unacked
    begin = since = points[0].at
    arrivals: list[float] = []
    for point, count in zip(points, course, strict=True):
        came = max(0, round(count - earlier) - len(arrivals))
        arrivals += [since - begin + (point.at - since) * (number + 0.5) / came for number in range(came)]
        since = point.at
    return arrivals


def _bounded(points: Sequence[_Point], course: Sequence[float]) -> list[float]:
    """Never more than had come by a later moment of which all is certain: at rest, and in the end."""
    most = course[-1]
    bounded = []
    for point, count in zip(reversed(points), reversed(course), strict=True):
        if point.at_rest and point.settled:
            most = min(most, count)
        bounded.append(min(count, most))
    return bounded[::-1]


def _falls(course: Sequence[float]) -> float:
    """By how much in all it became fewer, which arrivals never do."""
    return sum(max(0.0, before - after) for before, after in pairwise(course))


def _service_seconds(name: str, points: Sequence[_Point]) -> float:
    busy = ended = 0.0
    for before, after in pairwise(points):
        if before.running is None or after.running is None:
            continue  # a worker has said nothing yet
        slots = (before.running + after.running) / 2
        if before.queued and after.queued and before.capacity and after.capacity:
            slots = (before.capacity + after.capacity) / 2
        busy += slots * (after.at - before.at)
        ended += (after.taken - after.running) - (before.taken - before.running)
    if ended < 1 or busy <= 0:
        raise Impossible(f"{name}: no task ended while it was recorded")
    return busy / ended


def _rises(points: Sequence[_Point]) -> list[tuple[float, int]]:
    """When the replicas rose, and to how many."""
    return [
        ((before.at + after.at) / 2, after.replicas)
        for before, after in pairwise(points)
        if after.replicas > before.replicas
    ]


def _start_seconds(points: Sequence[_Point], rises: Sequence[tuple[float, int]], slots: int) -> float | None:
    times = []
    for risen, replicas in rises:
        full = _when(points, [(point.capacity or 0) >= replicas * slots for point in points], risen)
        if full is not None:
            times.append(full - risen)
    return median(times) if times else None


def _when(points: Sequence[_Point], facts: Sequence[bool], since: float) -> float | None:
    """When a fact was first so since then: in the middle of the poll in which it became so."""
    earlier = points[0].at
    for point, fact in zip(points, facts, strict=True):
        if fact and point.at >= since:
            return max(since, (earlier + point.at) / 2)
        earlier = point.at
    return None
