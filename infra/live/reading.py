"""From the API server's objects to `infra.live.sightings`: which field means what.

It owns the choice of a Deployment's newest pods and the reading of container states. It sends no
request (`infra.live.cluster` does) and draws no conclusion (`infra.live.rollout` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from lightkube.models.core_v1 import Container, ContainerState, ContainerStatus
from lightkube.resources.apps_v1 import Deployment, ReplicaSet
from lightkube.resources.core_v1 import Event, Pod

from infra.live.sightings import CelerySeen, ContainerSeen, DeploymentSeen, PodSeen

REVISION: Final = "deployment.kubernetes.io/revision"


def name_of(item: Any) -> str:
    return str(item.metadata.name)


def counts(pod: Pod) -> bool:
    """It is neither on its way out nor ended: an evicted pod stays in the list as Failed."""
    ended = pod.status is not None and pod.status.phase in ("Failed", "Succeeded")
    return not ended and pod.metadata is not None and pod.metadata.deletionTimestamp is None


def is_being_set_up(pod: Pod) -> bool:
    statuses = pod.status.containerStatuses if pod.status else None
    return any(not status.ready for status in statuses or ())


def owner_of(pod: Pod) -> str:
    owners = (pod.metadata.ownerReferences if pod.metadata else None) or ()
    return next((owner.uid for owner in owners if owner.controller), "")


def newest_replica_set(deployment: Deployment, sets: Iterable[ReplicaSet]) -> str:
    """UID of the ReplicaSet of the revision that the Deployment is at; "" before there is one.

    Pods of the version before may well be the broken ones that this one replaces.
    """
    revision = _annotation(deployment, REVISION)
    uid = deployment.metadata.uid if deployment.metadata else None
    for replica_set in sets:
        metadata = replica_set.metadata
        owners = (metadata.ownerReferences if metadata else None) or ()
        if any(owner.uid == uid for owner in owners) and _annotation(replica_set, REVISION) == revision:
            return (metadata.uid if metadata else None) or ""
    return ""


def deployment(item: Deployment, pods: tuple[PodSeen, ...]) -> DeploymentSeen:
    status = item.status
    wanted = item.spec.replicas if item.spec is not None and item.spec.replicas is not None else 1
    refused = next(
        (
            condition.message or condition.reason or "no reason given"
            for condition in (status.conditions if status else None) or ()
            if condition.type == "ReplicaFailure" and condition.status == "True"
        ),
        "",
    )
    return DeploymentSeen(
        name=name_of(item),
        generation=(item.metadata.generation if item.metadata else None) or 0,
        observed_generation=(status.observedGeneration if status else None) or 0,
        wanted=wanted,
        replicas=(status.replicas if status else None) or 0,
        updated=(status.updatedReplicas if status else None) or 0,
        available=(status.availableReplicas if status else None) or 0,
        refused=refused,
        pods=pods,
    )


def pod(item: Pod, warnings: Sequence[tuple[str, str]], now: datetime) -> PodSeen:
    status, spec = item.status, item.spec
    if status is None or spec is None:
        return PodSeen(name=name_of(item))
    conditions = {condition.type: condition for condition in status.conditions or ()}
    scheduled = conditions.get("PodScheduled")
    waits_for_node = scheduled is not None and scheduled.reason == "Unschedulable"
    # Mounts come before the sandbox, and the sandbox before this condition (kubernetes 1.29 and later).
    set_up = conditions.get("PodReadyToStartContainers")
    initial = {container.name: container for container in spec.initContainers or ()}
    declared = {container.name: container for container in spec.containers}
    return PodSeen(
        name=name_of(item),
        containers=(
            *(
                _container(found, initial.get(found.name), now)
                for found in status.initContainerStatuses or ()
            ),
            *(_container(found, declared.get(found.name), now) for found in status.containerStatuses or ()),
        ),
        unschedulable=(scheduled.message or "no reason given") if scheduled and waits_for_node else "",
        set_up=set_up is not None and set_up.status == "True",
        warnings=tuple(warnings),
    )


def _container(status: ContainerStatus, declared: Container | None, now: datetime) -> ContainerSeen:
    state = status.state or ContainerState()
    started = state.running.startedAt if state.running else None
    return ContainerSeen(
        name=status.name,
        # The declared name: the status's may be the runtime's own, as sha256:...
        image=(declared.image if declared else None) or status.image,
        probed=declared is not None and declared.readinessProbe is not None,
        ready=status.ready,
        running_seconds=(now - started).total_seconds() if started else None,
        waiting=(state.waiting.reason or "waiting") if state.waiting else "",
        message=(state.waiting.message or "") if state.waiting else "",
        restarts=status.restartCount,
        ended=state.terminated is not None and not status.ready,
        exited=_exit(state) or _exit(status.lastState),
    )


def _exit(state: ContainerState | None) -> str:
    ended = state.terminated if state else None
    if ended is None:
        return ""
    said = f": {' '.join(ended.message.split())}" if ended.message else ""
    return f"{ended.reason or 'ended'}, exit code {ended.exitCode}{said}"


def celery(item: Mapping[str, Any]) -> CelerySeen:
    metadata = item["metadata"]
    conditions = (item.get("status") or {}).get("conditions") or ()
    ready: Mapping[str, Any] = next((entry for entry in conditions if entry.get("type") == "Ready"), {})
    return CelerySeen(
        name=metadata["name"],
        generation=metadata.get("generation", 1),
        observed_generation=ready.get("observedGeneration", 0),
        ready=ready.get("status", ""),
        reason=ready.get("reason", ""),
        message=ready.get("message", ""),
    )


def last_seen(event: Event) -> datetime:
    at = (
        event.lastTimestamp
        or event.eventTime
        or (event.metadata.creationTimestamp if event.metadata else None)
    )
    return at or datetime.fromtimestamp(0, UTC)


def _annotation(item: Deployment | ReplicaSet, key: str) -> str | None:
    annotations = (item.metadata.annotations if item.metadata else None) or {}
    return annotations.get(key)
