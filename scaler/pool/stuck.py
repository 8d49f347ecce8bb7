"""Workers that are alive and take nothing, though there is work: whom to evict.

Celery has such workers after a broker was away (celery/celery#8030, #8384, #9054), and ones that hang while
they start. It owns what counts as one. It refuses whoever may hold a task: a worker that went silent may be
running one, and a rate limit makes a worker wait with tasks that no answer shows; so nobody is evicted
while the broker has a delivered task that no worker speaks of.

It talks to nobody and reads no clock; `scaler.pool.pool` asks it, `scaler.writer` evicts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from scaler.cluster.objects import Pod
from scaler.pool.crew import FRESH_SECONDS, Rest, node_of
from scaler.workers.answers import Answers, Heard

STUCK_SECONDS: Final = 300.0
"""Time without taking anything, with work due all along, after which a worker counts as stuck."""
EVICT_SECONDS: Final = 300.0
"""Least time between two evictions in one pool: if the cause is not the worker, nothing is gained by more."""


def suspects(
    pods: Sequence[Pod],
    *,
    heard: Heard,
    rests: Mapping[str, Rest],
    leaving: Collection[str],
    waiting_since: float | None,
    any_heard: bool,
    at: float,
) -> frozenset[str]:
    """Pods whose workers took nothing for too long; `waiting_since` is since when work has been due.

    `any_heard` is whether any worker of this pool was ever heard: of one that sends no heartbeats
    nothing can be told.
    """
    if waiting_since is None or at - waiting_since < STUCK_SECONDS or heard.since is None or not any_heard:
        return frozenset()
    found = set()
    for pod in pods:
        if pod.terminating or pod.name in leaving or pod.running_since is None or not pod.ready:
            continue
        since = _nothing_since(pod, heard, rests.get(pod.name), at)
        if since is not None and at - max(since, waiting_since) >= STUCK_SECONDS:
            found.add(pod.name)
    return frozenset(found)


def _nothing_since(pod: Pod, heard: Heard, rest: Rest | None, at: float) -> float | None:
    beat = heard.last.get(node_of(pod.name))
    if pod.running_since is None or heard.since is None:
        return None
    if beat is None or beat.at < pod.running_since:
        # Never heard, and we have listened all its life: it has not begun to consume.
        return pod.running_since if heard.since <= pod.running_since else None
    if rest is None or beat.offline or at - beat.at > FRESH_SECONDS:
        return None
    return max(rest.since, pod.running_since)


def stuck(
    suspected: Collection[str], answers: Answers, *, all_spoken_of: bool, later_takes_place: bool = False
) -> frozenset[str]:
    """Those of the suspects that certainly hold nothing.

    `all_spoken_of` is whether workers speak of every task that the broker has as delivered,
    `later_takes_place` whether tasks that are not due keep a worker from taking others: RabbitMQ 4 knows no
    prefetch that grows with them (kombu/transport/pyamqp.py, `qos_semantics_matches_spec`).
    """
    if not suspected or not all_spoken_of or not answers.asked:
        return frozenset()
    return frozenset(
        pod
        for pod in suspected
        if (held := answers.tasks.get(pod)) is None
        or not (held.running or held.reserved or (later_takes_place and held.scheduled))
    )
