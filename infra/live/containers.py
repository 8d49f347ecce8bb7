"""What keeps a container from running, as kubelet writes it, and what a person can do about it.

It owns kubelet's and the container runtime's words. Like `infra.live.rollout`, which asks it about each
container of a Deployment's newest pods, it reads no cluster and no clock.
"""

from __future__ import annotations

import re
from typing import Final

from infra.live.sightings import ContainerSeen, PodSeen
from infra.live.trouble import WRITTEN_OFF_SECONDS, Limits, Trouble, brief

UNREACHABLE_REGISTRY_SECONDS: Final = 45
"""A registry that did not answer, unlike one that said no, may be there at the third try (10 + 20 s)."""
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

PULL_PREAMBLE: Final = re.compile(
    r'^(Back-off pulling image "[^"]*": )?(ErrImagePull: )?(rpc error: code = \w+ desc = )?'
    r'(failed to pull and unpack image "[^"]*": )?(failed to resolve reference "[^"]*": )?'
)
"""What kubelet and containerd say before the reason: the image's name, three times over."""

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
SETUP_CURES: Final = {
    "FailedMount": "Make the Secret, ConfigMap or volume that it names.",
    "FailedAttachVolume": "See whether the volume is still attached to another node.",
    "FailedCreatePodSandBox": "The node's network or container runtime is at fault, not the stack.",
}
"""Reasons of the Warning events of a pod whose containers cannot even be tried."""


def container_trouble(subject: str, pod: PodSeen, container: ContainerSeen, limits: Limits) -> Trouble | None:
    """What keeps one container from running, in kubelet's words; None where nothing does."""
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
    if container.crashed or (container.exited and not container.ready):
        return _crash_trouble(subject, pod, container, limits)
    if state:
        return _on_its_way(subject, pod, container, limits)
    if container.running_seconds is not None and not container.ready:
        probe = [message for reason, message in pod.warnings if reason == "Unhealthy"]
        return Trouble(
            key=f"{place}/unready",
            subject=subject,
            what=f"container {container.name} of pod {pod.name} runs and is not ready"
            + (f": {brief(probe[-1])}." if probe else "."),
            cure=f"See `kubectl logs {pod.name} -c {container.name}`.",
            patience=limits.ready_seconds,
            starting=True,
        )
    return None


def _pull_trouble(subject: str, container: ContainerSeen) -> Trouble:
    said = container.message
    reason = brief(PULL_PREAMBLE.sub("", said)) or "no reason given"
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
        what=f"image {container.image} cannot be pulled ({container.waiting}): {reason}.",
        cure=cure,
        patience=patience,
    )


def _crash_trouble(subject: str, pod: PodSeen, container: ContainerSeen, limits: Limits) -> Trouble:
    for_sure = container.crashed and container.restarts >= CRASHES_FOR_SURE
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


def _on_its_way(subject: str, pod: PodSeen, container: ContainerSeen, limits: Limits) -> Trouble:
    failed = [(reason, message) for reason, message in pod.warnings if reason in SETUP_CURES]
    if failed and not pod.set_up:
        reason, message = failed[-1]
        return Trouble(
            key=f"{subject}/{reason}",
            subject=subject,
            what=f"pod {pod.name} cannot be set up ({reason}): {brief(message)}.",
            cure=SETUP_CURES[reason],
            patience=WRITTEN_OFF_SECONDS if "not found" in message else limits.ready_seconds,
        )
    return Trouble(
        key=f"{subject}/starting",
        subject=subject,
        what=f"pod {pod.name} pulls image {container.image} ({container.waiting}).",
        cure="If the image is large or the network slow, `pulumi up` again goes on from here.",
        patience=limits.image_seconds,
        starting=True,
    )
