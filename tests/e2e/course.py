"""Owns what is seen of one pool from moment to moment, and what happened in between.

A follower of its own connection looks at the object, the Deployment and its pods a few times a second. Falls
of the replicas and the steps of a drain are read off its moments; what the pods ran is in the ledger.
A look that the API server does not answer is left out, so a step may be seen late, never made up.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import httpx2
from lightkube import Client
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod

from demo.cluster import Cluster
from infra.live.cluster import Celery
from infra.live.kubeconfig import settings_of
from scaler.cluster.objects import VICTIM_COST
from scaler.cluster.wire import DELETION_COST
from scaler.contract import POOL_LABEL, worker_deployment_name
from tests.e2e.follower import repeated

LOOK_SECONDS = 0.2
FIRST_LOOK = threading.Lock()
"""msgspec 0.22 reads a type's fields when it first decodes one, and two threads that do so at once end the
process with a segmentation fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    at: float
    replicas: int
    """What the Deployment asks for."""
    pods: int
    """All that exist, those that are leaving too."""
    ready: int
    """Of those that are not leaving."""
    living: tuple[str, ...]
    """Pods that are not leaving, the youngest first: a ReplicaSet that knows of no deletion cost takes ready
    pods of one node in about this order."""
    draining: frozenset[str]
    marked: frozenset[str]
    condition: str
    """Reason of the condition Draining."""


class Step(StrEnum):
    """Where a scale-in or its undoing stands, as two moments in a row show it."""

    CHOSEN = "chosen"
    MARKED = "marked"
    LOWERED = "lowered"
    TAKEN_BACK = "taken back"
    RAISED = "raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A scale-in, as it was first seen."""

    at: float
    by: int
    pods: tuple[str, ...]
    """Those that lived a moment before, the youngest first."""
    marked: frozenset[str]
    """Of these, the ones that were to be taken."""

    def would_have_killed(self, running: dict[str, set[str]]) -> bool:
        """Whether a pod that the ReplicaSet's own order takes ran a task."""
        return any(running.get(pod) for pod in self.pods[: self.by])

    def took_busy(self, running: dict[str, set[str]]) -> list[str]:
        """The pods that it took, and that ran a task."""
        return sorted(pod for pod in self.marked if running.get(pod))


@dataclass(slots=True)
class Course:
    """The moments so far; the follower appends, everybody reads."""

    moments: list[Moment] = field(default_factory=list)

    @property
    def now(self) -> Moment:
        return self.moments[-1]

    def falls(self) -> list[Fall]:
        return [
            Fall(
                at=later.at,
                by=earlier.replicas - later.replicas,
                pods=earlier.living,
                marked=earlier.marked,
            )
            for earlier, later in pairwise(self.moments)
            if later.replicas < earlier.replicas
        ]

    def steps(self, since: int = 0) -> Iterator[Step]:
        """Those between the moments from number `since` on."""
        for earlier, later in pairwise(self.moments[max(0, since - 1) :]):
            yield from steps_between(earlier, later)

    def counted(self) -> Counter[Step]:
        return Counter(self.steps())

    def of(self, pod: str, around: float, seconds: float) -> Iterator[str]:
        """What was seen of one pod before and after a moment, a line each."""
        for moment in self.moments:
            if abs(moment.at - around) > seconds:
                continue
            states = {"lives": moment.living, "drains": moment.draining, "is marked": moment.marked}
            found = ", ".join(state for state, pods in states.items() if pod in pods) or "is gone"
            when = f"{moment.at - around:+.2f} s"
            yield f"{when}: {moment.replicas} replicas, {moment.condition}, {pod} {found}"


def steps_between(earlier: Moment, later: Moment) -> Iterator[Step]:
    if later.replicas < earlier.replicas:
        yield Step.LOWERED
    elif later.replicas > earlier.replicas:
        yield Step.RAISED
    if later.draining - earlier.draining:
        yield Step.CHOSEN
    if later.marked - earlier.marked:
        yield Step.MARKED
    back = earlier.draining - later.draining
    if back & set(later.living) and later.replicas >= earlier.replicas:
        yield Step.TAKEN_BACK


@contextmanager
def followed(
    cluster: Cluster, namespace: str, pool: str, *, pause_seconds: float = LOOK_SECONDS
) -> Iterator[Course]:
    course = Course()
    client = Client(config=settings_of(cluster.context, str(cluster.kubeconfig)), namespace=namespace)

    def look() -> None:
        course.moments.append(_look(client, pool))

    with FIRST_LOOK:
        look()
    with closing(client), repeated(look, pause_seconds=pause_seconds, passing=httpx2.HTTPError):
        yield course


def _look(client: Client, pool: str) -> Moment:
    status = client.get(Celery, pool).get("status") or {}
    deployment = client.get(Deployment, worker_deployment_name(pool))
    pods = list(client.list(Pod, labels={POOL_LABEL: pool}))
    living = [pod for pod in pods if not _metadata(pod).deletionTimestamp]
    living.sort(key=lambda pod: _metadata(pod).creationTimestamp, reverse=True)
    drain: dict[str, str] = next(
        (one for one in status.get("conditions") or () if one["type"] == "Draining"), {}
    )
    return Moment(
        at=time.time(),
        replicas=(deployment.spec.replicas if deployment.spec else None) or 0,
        pods=len(pods),
        ready=sum(map(_is_ready, living)),
        living=tuple(_metadata(pod).name for pod in living),
        draining=frozenset(victim["pod"] for victim in status.get("draining") or ()),
        marked=frozenset(_metadata(pod).name for pod in living if _is_marked(pod)),
        condition=drain.get("reason", ""),
    )


def _metadata(pod: Pod) -> Any:
    return pod.metadata


def _is_ready(pod: Pod) -> bool:
    conditions = (pod.status.conditions if pod.status else None) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def _is_marked(pod: Pod) -> bool:
    annotations = _metadata(pod).annotations or {}
    return int(annotations.get(DELETION_COST, 0)) <= VICTIM_COST
