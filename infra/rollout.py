"""What keeps a Deployment from being there: each trouble with its reason, its patience and its cure.

It owns the reading of Deployment, ReplicaSet and pod states as the kubelet and the controllers write
them. It reads no cluster and no clock, and it decides nothing: how long a trouble has lasted, and so
whether it is worth more waiting, is `infra.readiness`'s to say. The words are in `infra.sightings`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from infra.sightings import ContainerSeen, DeploymentSeen, PodSeen

NEVER: Final = math.inf
"""Patience of a trouble that something else will end, one way or the other."""

WRITTEN_OFF_SECONDS: Final = 15
"""A state that kubelet or a controller itself retries. Two tries of a pull or of a missing Secret lie
within: kubelet's back-off starts at 10 s (pkg/kubelet/kubelet.go, imageBackOffPeriod)."""
UNREACHABLE_REGISTRY_SECONDS: Final = 45
"""A registry that did not answer, unlike one that said no, may be there at the third try (10 + 20 s)."""
UNSCHEDULABLE_SECONDS: Final = 120
"""A cluster autoscaler needs one to two minutes for a node."""
SETTLE_SECONDS: Final = 10
"""A container without a readiness probe counts as available in the second it starts, also when it is to
crash in the next: a worker whose app cannot be imported does so after 1 to 3 s."""
SETTLED_AGE_SECONDS: Final = 60
"""Beyond this age a container has settled, whatever the node's clock says against ours."""
CRASHES_FOR_SURE: Final = 2
"""Restarts. One crash is often a dependency that came up a moment later."""

REFUSALS: Final = (
    "not found",
    "manifest unknown",
    "denied",
    "unauthorized",
    "forbidden",
    "authentication required",
    "no basic auth",
    "invalid reference",
    "server gave HTTP response",
    "x509",
    "no match for platform",
)
"""What a registry or the runtime says, as the message holds it, when asking again changes nothing."""

PULL_STATES: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "RegistryUnavailable",
        "ImageInspectError",
        "SignatureValidationFailed",
    }
)
HOPELESS_PULL_STATES: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
CONFIGURATION_STATES: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})
FATAL_WARNINGS: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    ready_seconds: float = 60
    image_seconds: float = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is not as it should be."""

    key: str
    """The same from poll to poll for as long as it is the same trouble: its clock hangs on it."""
    subject: str
    what: str
    cure: str = ""
    patience: float
    """Seconds that it may last."""
    clears_after: float | None = None
    """It is no trouble any more once it has lasted this long."""
    starting: bool = False
    """The thing is on its way; what crashes meanwhile may be waiting for it."""
    crash: bool = False
    capacity: bool = False
    """Only more of the same is missing."""

    @property
    def sentence(self) -> str:
        return f"{self.subject}: {self.what}" + (f" {self.cure}" if self.cure else "")


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
            what=f"the roll-out has stopped at {counts} of {deployment.wanted} pods.",
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
        yield _on_its_way(subject, pod, "waits for a node and its kubelet", limits)
    for container in pod.containers:
        trouble = _container_trouble(subject, pod, container, limits)
        if trouble is not None:
            yield trouble


def _container_trouble(
    subject: str, pod: PodSeen, container: ContainerSeen, limits: Limits
) -> Trouble | None:
    state = container.waiting
    place = f"{subject}/{container.name}"
    if state in PULL_STATES or state in HOPELESS_PULL_STATES:
        return _pull_trouble(subject, container)
    if state in CONFIGURATION_STATES:
        return Trouble(
            key=f"{place}/configuration",
            subject=subject,
            what=f"container {container.name} cannot be made ({state}): {brief(container.message)}.",
            cure="Make the Secret, ConfigMap or key that it names, or correct env, envFrom or "
            "existingSecret: pulumi config set.",
            patience=WRITTEN_OFF_SECONDS,
        )
    if state == "RunContainerError" or container.exited.startswith("StartError"):
        return Trouble(
            # kubelet alternates RunContainerError and CrashLoopBackOff.
            key=f"{place}/start",
            subject=subject,
            what=f"container {container.name} cannot start: {brief(container.exited or container.message)}.",
            cure="Its command has to be in the image, as `celery` in a worker's: pulumi config set image.",
            patience=WRITTEN_OFF_SECONDS,
        )
    if state == "CrashLoopBackOff" or (container.exited and not container.ready):
        return _crash_trouble(subject, pod, container, limits)
    if state:
        return _on_its_way(subject, pod, f"pulls image {container.image} ({state})", limits)
    if container.running_seconds is not None and not container.ready:
        return Trouble(
            key=f"{place}/unready",
            subject=subject,
            what=f"container {container.name} of pod {pod.name} runs and is not ready"
            + (f": {brief(pod.warnings[-1][1])}." if pod.warnings else "."),
            cure=f"See `kubectl logs {pod.name} -c {container.name}`.",
            patience=limits.ready_seconds,
            starting=True,
        )
    return None


def _pull_trouble(subject: str, container: ContainerSeen) -> Trouble:
    said = container.message
    if container.waiting == "ErrImageNeverPull":
        cure = "Load the image onto every node, or: pulumi config set imagePullPolicy IfNotPresent."
    elif container.waiting == "InvalidImageName":
        cure = "Correct the name: pulumi config set image, imageRegistry or imageTag."
    else:
        cure = (
            "Build and push it (make images REGISTRY=... PUSH=1) or correct its name (pulumi config set "
            "image, imageRegistry or imageTag); for a private registry, pulumi config set imagePullSecrets."
        )
    if container.waiting in HOPELESS_PULL_STATES:
        patience = 0
    elif any(word in said for word in REFUSALS):
        patience = WRITTEN_OFF_SECONDS
    else:
        patience = UNREACHABLE_REGISTRY_SECONDS
    return Trouble(
        # Not the pod's name nor the state: kubelet goes to and fro between ErrImagePull and
        # ImagePullBackOff, and several pods fail to pull the same image.
        key=f"{subject}/{container.name}/pull/{container.image}",
        subject=subject,
        what=f"image {container.image} cannot be pulled ({container.waiting}): {brief(said)}.",
        cure=cure,
        patience=patience,
    )


def _crash_trouble(subject: str, pod: PodSeen, container: ContainerSeen, limits: Limits) -> Trouble:
    for_sure = container.waiting == "CrashLoopBackOff" and container.restarts >= CRASHES_FOR_SURE
    tail = f" Its last words:\n    {container.log_tail}\n " if container.log_tail else ""
    exit_code = container.exited or "no exit code seen"
    times = f"{container.restarts + 1} times" if container.restarts else "once"
    return Trouble(
        key=f"{subject}/{container.name}/crash/{'sure' if for_sure else 'first'}",
        subject=subject,
        what=f"container {container.name} has ended {times} ({exit_code}).{tail}",
        cure=f"See `kubectl logs {pod.name} -c {container.name} --previous`.",
        patience=0 if for_sure else limits.ready_seconds,
        crash=True,
    )


def _on_its_way(subject: str, pod: PodSeen, what: str, limits: Limits) -> Trouble:
    fatal = [(reason, message) for reason, message in pod.warnings if reason in FATAL_WARNINGS]
    if fatal:
        reason, message = fatal[-1]
        return Trouble(
            key=f"{subject}/{reason}",
            subject=subject,
            what=f"pod {pod.name} cannot be set up ({reason}): {brief(message)}.",
            cure="Make the Secret, ConfigMap or volume that it names.",
            patience=WRITTEN_OFF_SECONDS if "not found" in message else limits.ready_seconds,
        )
    return Trouble(
        key=f"{subject}/starting",
        subject=subject,
        what=f"pod {pod.name} {what}.",
        cure="If the image is large or the network slow, `pulumi up` again goes on from here.",
        patience=limits.image_seconds,
        starting=True,
    )


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


def brief(text: str) -> str:
    """One line of at most 400 characters, without the full stop that our sentence adds."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 400 else f"{line[:397]}..."
