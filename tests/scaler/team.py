"""Pods, answers and heartbeats with plain defaults, for the tests of what a tick makes of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from scaler.cluster.objects import Deployment, Pod
from scaler.pool.crew import Crew, crew_of, node_of
from scaler.workers.answers import Answers, Heard, Heartbeat, HeldTasks
from tests.scaler.samples import AT


def pod(name: str, **facts: Any) -> Pod:
    """One that has run for an hour."""
    plain = Pod(
        name=name,
        uid=f"uid-{name}",
        deployment="sums-celery-worker",
        replica_set="sums-celery-worker-1",
        created_at=AT - 3600,
        running_since=AT - 3600,
        assigned=True,
        ready=True,
        terminating=False,
        deletion_cost=0,
    )
    return replace(plain, **facts)


def deployment(replicas: int, **facts: Any) -> Deployment:
    plain = Deployment(
        name="sums-celery-worker",
        uid="uid",
        resource_version=1,
        spec_replicas=replicas,
        replicas=replicas,
        foreign_owner=None,
    )
    return replace(plain, **facts)


def held(*running: str, acknowledged: Collection[str] = (), reserved: Collection[str] = ()) -> HeldTasks:
    return HeldTasks(
        running=frozenset(running),
        acknowledged=frozenset(acknowledged),
        reserved=frozenset(reserved),
        scheduled=0,
        next_due=None,
    )


def answers(stopped: Collection[str] = (), **tasks: HeldTasks) -> Answers:
    """By pod; whoever was asked has answered."""
    return Answers(asked=frozenset(tasks), stopped=frozenset(stopped), tasks=tasks)


def beat(active: int = 0, *, at: float = AT, processed: int = 0, offline: bool = False) -> Heartbeat:
    return Heartbeat(at=at, active=active, processed=processed, offline=offline)


def heard(since: float = AT - 7200, /, **beats: Heartbeat) -> Heard:
    """By pod."""
    return Heard(since=since, last={node_of(name): word for name, word in beats.items()})


def crew(*pods: Pod, **facts: Any) -> Crew:
    """Workers with two slots each, as they are at AT."""
    plain: dict[str, Any] = {
        "replicas": len(pods),
        "slots": 2,
        "heard": heard(),
        "answers": Answers(),
        "leaving": (),
        "held": (),
        "rests": {},
        "quiet_since": None,
        "at": AT,
    }
    return crew_of(pods, **plain | facts)
