"""What keeps a Deployment from being there: its own troubles, and those of its newest pods.

It owns the reading of Deployment and pod states as controllers and scheduler write them. It reads no
cluster and no clock: how long a trouble has lasted, and so whether it is worth more waiting, is
`infra.live.readiness`'s to say. What kubelet says of containers is in `infra.live.containers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.live.containers import container_trouble
from infra.live.sightings import DeploymentSeen, PodSeen
from infra.live.trouble import NEVER, WRITTEN_OFF_SECONDS, Limits, Trouble, brief

UNSCHEDULABLE_SECONDS: Final = 120
"""A cluster autoscaler needs one to two minutes for a node."""
SETTLE_SECONDS: Final = 10
"""A container without a readiness probe counts as available in the second it starts, also when it is to
crash in the next: a worker whose app cannot be imported does so after 1 to 3 s."""
SETTLED_AGE_SECONDS: Final = 60
"""Beyond this age a container has settled, whatever the node's clock says against ours."""


def rollout_troubles(deployment: DeploymentSeen, limits: Limits) -> Iterator[Trouble]:
    """Each trouble of one Deployment once, however many of its pods have it."""
    subject = f"Deployment {deployment.name}"
    if deployment.observed_generation < deployment.generation:
        yield Trouble(
            key=f"{subject}/observed",
            subject=subject,
            what="the cluster's Deployment controller has not taken up this version.",
            cure="See whether kube-controller-manager runs.",
            patience=limits.ready_seconds,
        )
        return
    troubles: dict[str, Trouble] = {}
    if deployment.refused:
        trouble = _refused(subject, deployment.refused)
        troubles[trouble.key] = trouble
    for pod in deployment.pods:
        for trouble in _pod_troubles(subject, pod, limits):
            troubles.setdefault(trouble.key, trouble)
    if deployment.serves and all(trouble.capacity for trouble in troubles.values()):
        # A pool at its maximum on a full cluster is a note, not a failed `up`.
        yield from troubles.values()
    elif troubles or deployment.rolled_out:
        yield from troubles.values()
    else:
        counts = f"{deployment.available} available, {deployment.updated} new, {deployment.replicas} in all"
        yield Trouble(
            key=f"{subject}/rollout/{counts}",
            subject=subject,
            what=f"the roll-out stands at {counts} of {deployment.wanted} pods.",
            cure=f"See `kubectl describe deployment {deployment.name}`.",
            patience=limits.ready_seconds,
            starting=True,
        )
    if deployment.serves:
        yield from _unsettled(subject, deployment)


def _refused(subject: str, message: str) -> Trouble:
    quota = "quota" in message
    cure = (
        "Raise the namespace's quota, or ask for less: pulumi config set resources or maxReplicas."
        if quota
        else "The cluster's admission rules have to allow these pods, or the stack has to follow them."
    )
    return Trouble(
        key=f"{subject}/refused",
        subject=subject,
        what=f"no pod can be made: {brief(message)}.",
        cure=cure,
        patience=WRITTEN_OFF_SECONDS,
        capacity=quota,
    )


def _pod_troubles(subject: str, pod: PodSeen, limits: Limits) -> Iterator[Trouble]:
    if pod.unschedulable:
        yield Trouble(
            key=f"{subject}/unschedulable",
            subject=subject,
            what=f"pod {pod.name} finds no node: {brief(pod.unschedulable)}.",
            cure="Add nodes, or ask for less: pulumi config set resources, concurrency or maxReplicas.",
            patience=min(UNSCHEDULABLE_SECONDS, limits.image_seconds),
            capacity=True,
            starting=True,
        )
    elif not pod.containers:
        yield Trouble(
            key=f"{subject}/kubelet",
            subject=subject,
            what=f"pod {pod.name} waits for a node and its kubelet.",
            cure="See `kubectl get nodes`.",
            patience=limits.ready_seconds,
            starting=True,
        )
    for container in pod.containers:
        trouble = container_trouble(subject, pod, container, limits)
        if trouble is not None:
            yield trouble


def _unsettled(subject: str, deployment: DeploymentSeen) -> Iterator[Trouble]:
    """Containers that no probe vouches for have to be seen running for a while."""
    fresh = [
        f"{pod.name}/{container.name}/{container.restarts}"
        for pod in deployment.pods
        for container in pod.containers
        if not container.probed
        and container.running_seconds is not None
        and container.running_seconds < SETTLED_AGE_SECONDS
    ]
    settled_pods = any(
        container.running_seconds is not None and container.running_seconds >= SETTLED_AGE_SECONDS
        for pod in deployment.pods
        for container in pod.containers
    )
    if settled_pods:
        return  # a scaler that adds workers must not hold `up`
    for name in fresh:
        yield Trouble(
            key=f"{subject}/settle/{name}",
            subject=subject,
            what=f"{name} has only just started.",
            patience=NEVER,
            clears_after=SETTLE_SECONDS,
            starting=True,
        )
