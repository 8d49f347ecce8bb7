"""The workers of one pool, as Kubernetes, their heartbeats and their answers show them together.

It owns the join of the three by pod name, and how sure each figure is: a worker that says nothing may run
as many tasks as it has slots. A heartbeat is up to 2 s old, and a task can be taken and acknowledged after
it and before the broker is read; so heartbeats say that a worker is idle only by several of them in a row,
younger than the moment since which the broker has had nothing for it. It talks to nobody and reads no
clock.

`scaler.pool.pool` makes a `Crew` each tick, and takes the demand's running part from it;
`scaler.pool.handshake` chooses among its workers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from scaler.cluster.objects import Pod
from scaler.pool.count import NOTHING, UNKNOWN, Count
from scaler.pool.drain import Worker
from scaler.workers.answers import Answers, Heard, Heartbeat

FRESH_SECONDS: Final = 10.0
"""Silence up to which a heartbeat counts: five were lost, or the worker's main process is blocked."""
LATE_SECONDS: Final = 0.5
"""How much older than its arrival what a heartbeat says may be."""
BOOT_SECONDS: Final = 10.0
"""Time after a container's start in which a worker that says nothing is not asked: it cannot answer yet."""
IDLE_BEATS: Final = 3
"""Heartbeats in a row without a task after which a worker counts as idle without being asked."""


def node_of(pod: str) -> str:
    """The name that `infra.components.workers` gives the worker in this pod."""
    return f"worker@{pod}"


@dataclass(frozen=True, slots=True)
class Rest:
    """Since when a worker's heartbeats have said that it runs nothing and has taken nothing."""

    processed: int
    last: float
    since: float
    beats: int

    @classmethod
    def after(cls, earlier: Rest | None, beat: Heartbeat) -> Rest | None:
        if beat.active or beat.offline:
            return None
        if earlier is None or earlier.processed != beat.processed:
            return cls(beat.processed, beat.at, beat.at, 1)
        if earlier.last == beat.at:
            return earlier
        return replace(earlier, last=beat.at, beats=earlier.beats + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    workers: tuple[Worker, ...]
    active: Count
    """Running tasks whose messages are acknowledged."""
    running: int | None
    """All running tasks; None unless every worker said it."""
    capacity: int | None
    """Slots of the workers that still take tasks; None where one of them says nothing."""
    to_ask: frozenset[str]
    """Pods whose workers can be expected to answer."""
    heard: frozenset[str]
    """Pods of which a heartbeat came not long ago."""
    speaking: frozenset[str]
    """Those and the ones that have answered, without terminating ones."""
    unseen: int
    """Pods that the Deployment counts and that no watch shows."""


def crew_of(
    pods: Sequence[Pod],
    *,
    replicas: int | None,
    slots: int,
    heard: Heard,
    answers: Answers,
    leaving: Collection[str],
    held: Collection[str],
    rests: Mapping[str, Rest],
    quiet_since: float | None,
    at: float,
) -> Crew:
    """Join what is known of a pool's workers.

    `replicas` are the pods that the Deployment counts, `held` the ids of the due tasks that the broker
    still has as unacknowledged, `quiet_since` is when it was first seen to have nothing for the pool.
    """
    members = [_Member(pod, heard, answers, at) for pod in pods]
    living = [member for member in members if not member.pod.terminating]
    unseen = max(0, (replicas or 0) - len(living))
    active = Count(0, unseen * slots)
    for member in members:
        active += member.acknowledged(slots, held, rests.get(member.pod.name), quiet_since)
    taking = [member for member in living if member.runs and member.pod.name not in leaving]
    known = all(member.speaks for member in taking) and not unseen
    running = [member.running for member in members if member.runs]
    return Crew(
        workers=tuple(member.worker(at) for member in members),
        active=active,
        running=None if unseen or None in running else sum(tasks or 0 for tasks in running),
        capacity=slots * len(taking) if known else None,
        to_ask=frozenset(member.pod.name for member in living if member.may_answer),
        heard=frozenset(member.pod.name for member in members if member.beat is not None),
        speaking=frozenset(member.pod.name for member in living if member.speaks),
        unseen=unseen,
    )


class _Member:
    def __init__(self, pod: Pod, heard: Heard, answers: Answers, at: float) -> None:
        self.pod = pod
        self.runs = pod.running_since is not None
        beat = heard.last.get(node_of(pod.name))
        # What a container before this one said is about tasks that ended with it.
        ours = beat is not None and pod.running_since is not None and beat.at >= pod.running_since
        self.beat = beat if ours and beat is not None and at - beat.at <= FRESH_SECONDS else None
        self.held = answers.tasks.get(pod.name)
        self.stopped = pod.name in answers.stopped
        self.may_answer = self.runs and (
            self.beat is not None or at - (pod.running_since or at) > BOOT_SECONDS
        )

    @property
    def speaks(self) -> bool:
        return self.beat is not None or self.held is not None

    @property
    def running(self) -> int | None:
        if self.held is not None:
            return len(self.held.running)
        return self.beat.active if self.beat is not None else None

    def acknowledged(
        self, slots: int, held: Collection[str], rest: Rest | None, quiet_since: float | None
    ) -> Count:
        if not self.runs:
            return Count.exactly(0)
        if self.held is not None:
            # Read before the workers were asked, the broker may still have had a task that runs now.
            return Count.exactly(len(self.held.acknowledged.difference(held)))
        beat = self.beat
        if beat is None:
            return Count(0, slots)
        idle = rest is not None and rest.beats >= IDLE_BEATS and not (beat.active or beat.offline)
        if idle and quiet_since is not None and beat.at >= quiet_since + LATE_SECONDS:
            return NOTHING
        return Count(0, max(slots, beat.active))

    def worker(self, at: float) -> Worker:
        pod = self.pod
        return Worker(
            pod=pod.name,
            created_at=pod.created_at,
            replica_set=pod.replica_set,
            tasks=UNKNOWN if self.held is None else self.held.due(at),
            stopped=self.stopped,
            settled=pod.assigned and pod.ready and self.runs,
            terminating=pod.terminating,
            marked=pod.marked,
        )
