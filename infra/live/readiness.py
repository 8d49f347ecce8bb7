"""Is the fleet ready, is it worth waiting for, or has it failed: a pure function of what was read.

It owns the clocks of a wait: since when each trouble has been seen, and how long each may last. One
failed thing ends the wait, and its message then lists everything that is not ready, with the cure.
It reads nothing and keeps nothing: time is an argument, memory goes in and comes out.

`infra.live.rollout` knows what ails a Deployment, `infra.live.cluster` reads it, `infra.lifecycle` waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from infra.live.rollout import rollout_troubles
from infra.live.sightings import CelerySeen, Seen
from infra.live.trouble import NEVER, WRITTEN_OFF_SECONDS, Limits, Trouble, brief
from scaler.contract import KIND, SCALER_NAME, Ready

CURES: Final[Mapping[str, str]] = {
    Ready.INVALID_SPEC: "Correct the pool's settings: pulumi config set.",
    Ready.DEPLOYMENT_NOT_FOUND: "`pulumi refresh`, then `pulumi up`, makes a removed Deployment again.",
    Ready.BROKER_UNREACHABLE: "See whether the broker runs and whether a NetworkPolicy lets the scaler in.",
    Ready.BROKER_REFUSED: "The broker's Secret must hold the password that the broker was started with.",
    Ready.BROKER_URL_INVALID: "The Secret's `url` must begin with redis, rediss, sentinel, amqp or amqps.",
    Ready.BROKER_NOT_TRUSTED: "Name the authorities of the broker's certificate: pulumi config set brokerCa.",
    Ready.VHOST_NOT_FOUND: "Make the vhost on the broker, or correct the path of its URL.",
    Ready.QUEUE_NOT_FOUND: "See whether the workers use this vhost, and consume by this name.",
    Ready.MANAGEMENT_UNAVAILABLE: "Start rabbitmq_management, let the scaler in, or take out management-url.",
    Ready.FORBIDDEN: "`pulumi up` restores the scaler's Role; a policy engine may have changed it.",
    Ready.OTHER_SCALER: "One scaler per namespace: remove the other, or give this stack its own namespace.",
}

BLINK_SECONDS: Final = 15
"""A trouble that is away for no longer is still the same: a kubelet that restarts reports a failing pull as
ContainerCreating until its next try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """When each trouble was seen first and last, by its key."""

    started: float
    seen: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    notes: tuple[str, ...] = ()
    """What is not as wished and keeps nothing from working."""


@dataclass(frozen=True, slots=True)
class Waiting:
    troubles: tuple[Trouble, ...]
    """None where only time is missing."""


@dataclass(frozen=True, slots=True)
class Failed:
    message: str


Verdict = Done | Waiting | Failed


def assess(seen: Seen, memory: Memory, limits: Limits, now: float) -> tuple[Verdict, Memory]:
    """In this order:

    1. list every trouble; one that was there a moment ago keeps its clock;
    2. leave out those that time alone has mended, and note those that only lack capacity;
    3. any that has outlasted its patience fails the whole, and so does the last deadline;
    4. none left: done.
    """
    listed = [*_deployments(seen, limits), *_celeries(seen, limits)]
    kept = {key: times for key, times in memory.seen.items() if now - times[1] <= BLINK_SECONDS}
    since = {trouble.key: kept.get(trouble.key, (now, now))[0] for trouble in listed}
    memory = Memory(
        started=memory.started, seen={**kept, **{key: (first, now) for key, first in since.items()}}
    )
    present = [trouble for trouble in listed if not _mended(trouble, now - since[trouble.key])]
    notes = [trouble for trouble in present if _tolerable(trouble, seen)]
    troubles = [trouble for trouble in present if trouble not in notes]
    if not troubles:
        return Done(tuple(trouble.sentence for trouble in notes)), memory
    starting = any(trouble.starting for trouble in troubles)
    overdue = [
        trouble
        for trouble in troubles
        if now - since[trouble.key] >= trouble.patience and not (trouble.crash and starting)
    ]
    waited = now - memory.started
    if overdue or waited >= last_deadline_seconds(limits):
        rest = [trouble for trouble in troubles if trouble not in overdue and trouble.clears_after is None]
        return Failed(_message([*overdue, *rest] or troubles, waited)), memory
    return Waiting(tuple(one for one in troubles if one.clears_after is None)), memory


def last_deadline_seconds(limits: Limits) -> float:
    """Images, then pods, then the scaler's word: whatever begins anew in between, it ends here."""
    return limits.image_seconds + 2 * limits.ready_seconds + WRITTEN_OFF_SECONDS


def _mended(trouble: Trouble, lasted: float) -> bool:
    return trouble.clears_after is not None and lasted >= trouble.clears_after


def _tolerable(trouble: Trouble, seen: Seen) -> bool:
    return trouble.capacity and any(
        deployment is not None and deployment.serves and trouble.subject == f"Deployment {name}"
        for name, deployment in seen.deployments.items()
    )


def _deployments(seen: Seen, limits: Limits) -> Iterator[Trouble]:
    for name, deployment in seen.deployments.items():
        if deployment is not None:
            yield from rollout_troubles(deployment, limits)
        else:
            yield _gone(f"Deployment {name}")


def _celeries(seen: Seen, limits: Limits) -> Iterator[Trouble]:
    scaler = seen.deployments.get(SCALER_NAME)
    scaler_runs = SCALER_NAME not in seen.deployments or (scaler is not None and scaler.serves)
    for name, celery in seen.celeries.items():
        subject = f"{KIND} object {name}"
        if celery is None:
            yield _gone(subject)
        elif not scaler_runs:
            # What ails the scaler's Deployment is listed with it; the object's clock starts after that.
            yield Trouble(
                key=f"{subject}/scaler",
                subject=subject,
                what="the scaler's pod does not run yet.",
                patience=NEVER,
            )
        elif celery.ready != "True" or celery.observed_generation < celery.generation:
            yield _unready(subject, celery, limits)


def _unready(subject: str, celery: CelerySeen, limits: Limits) -> Trouble:
    unheard = not celery.ready or celery.observed_generation < celery.generation
    if unheard:
        what = f"the scaler has not reported on generation {celery.generation} of it."
        cure = f"See `kubectl logs deployment/{SCALER_NAME}`."
    else:
        what = f"{celery.reason}: {brief(celery.message)}."
        cure = CURES.get(celery.reason, f"See `kubectl describe cel {celery.name}`.")
    hopeless = not unheard and celery.reason == Ready.INVALID_SPEC
    return Trouble(
        # One clock for all of it: the reasons of a broker that comes up change from poll to poll.
        key=f"{subject}/{'invalid' if hopeless else 'ready'}",
        subject=subject,
        what=what,
        cure=cure,
        patience=0 if hopeless else limits.ready_seconds,
    )


def _gone(subject: str) -> Trouble:
    return Trouble(
        key=f"{subject}/gone",
        subject=subject,
        what="it is not there any more.",
        cure="Something else removed it: `pulumi refresh`, then `pulumi up`, makes it again.",
        patience=WRITTEN_OFF_SECONDS,
    )


def _message(troubles: list[Trouble], waited: float) -> str:
    lines = "\n".join(f"- {trouble.sentence}" for trouble in troubles)
    return f"the fleet is not ready after {waited:.0f} s:\n{lines}"
