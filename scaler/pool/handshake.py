"""From a decision to what one tick does about a pool's replicas: adding them, and letting workers go.

It owns which replicas may fall at once because no worker runs for them, how many of the others leave, and
when a drain is tried again. The order of steps with the workers is in `scaler.pool.drain`, the decision in
`scaler.pool.decision`; `scaler.writer` carries out what comes from here. It talks to nobody and reads no
clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from scaler.cluster.objects import VICTIM_COST, Deployment, Pod
from scaler.contract import POOL_LABEL, Policy
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.crew import FRESH_SECONDS, IDLE_BEATS, LATE_SECONDS, Crew, Rest
from scaler.pool.decision import Decision, Reason
from scaler.pool.drain import DrainReason, Leaving, Plan, Worker, plan

AGAIN_SECONDS: Final = 60.0
"""Least time from a drain that its deadline cancelled to the next; the scale-down window, if longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    replicas: int
    """What `/scale` is to say; as it is now where nothing is to be written."""
    drain: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a step depends on besides the decision."""

    at: float
    policy: Policy
    deployment: Deployment
    pods: Sequence[Pod]
    crew: Crew
    leaving: tuple[Leaving, ...]
    let_go: frozenset[str] = frozenset()
    """Pods that `/scale` has let go (`scaler.pool.let_go`)."""
    marks_are_seen: bool = True
    """By whoever takes pods away; the newest mark is old enough for that."""
    again_at: float
    """Before this no new drain begins."""
    answerless: bool
    """No worker answers, though heartbeats come."""
    rests: Mapping[str, Rest]
    quiet_since: float | None
    """Since when the broker has nothing due for the pool; None where it has, or where that is unknown."""


def step_of(decision: Decision, scene: Scene) -> Step:
    """Plan one tick.

    1. More replicas: at once. Workers that were to leave stay, but those that `/scale` has let go.
    2. Fewer: first those that have no worker, at once: pods that were never made, those without a node,
       and all pods where none of them runs. A ReplicaSet removes these first.
    3. The others leave by the handshake of `scaler.pool.drain`, and `/scale` falls by just as many as it
       says, once every mark can be taken to be known to the ReplicaSet. Those that `/scale` has let go, and
       that are still there, do not count a second time.
    4. As many as are desired stay of those that speak: one that says nothing may consume nothing.
    """
    spec, desired = scene.deployment.spec_replicas, decision.desired_replicas
    living = [pod for pod in scene.pods if not pod.terminating]
    chosen = {victim.pod for victim in scene.leaving}
    going = min(max(0, len(living) - spec), sum(pod.name in chosen for pod in living))
    target = max(desired, spec - _without_worker(scene, living))
    drain = _drain(decision, scene, living, max(0, target - desired) + going, going)
    if target > spec:
        return Step(replicas=target, drain=replace(drain, remove=0))
    if target < spec:
        # Nobody is marked meanwhile, nor loses the mark: which of both the controller sees first is open.
        unmarked = any(pod.name in drain.resume and pod.marked for pod in living)
        drain = replace(drain, remove=0, mark=frozenset())
        return Step(replicas=spec if unmarked else target, drain=drain)
    if not scene.marks_are_seen:
        drain = replace(drain, remove=0)
    # Replicas that fell by somebody else's doing.
    others = max(0, going - sum(pod.name in scene.let_go for pod in living))
    return Step(replicas=spec - max(0, drain.remove - others), drain=drain)


def costs_of(drain: Plan, pods: Sequence[Pod]) -> tuple[tuple[Pod, int | None], ...]:
    """The marks to write: on drained pods, and off those that stay."""
    return tuple(
        (pod, VICTIM_COST if pod.name in drain.mark else None)
        for pod in pods
        if pod.name in drain.mark or (pod.name in drain.resume and pod.marked)
    )


def _without_worker(scene: Scene, living: Sequence[Pod]) -> int:
    if scene.deployment.rolling_out or scene.crew.unseen:
        return 0
    if all(pod.running_since is None for pod in living):
        return scene.deployment.spec_replicas
    # Pods that were never made count, and those that an earlier `/scale` has let go do not.
    missing = scene.deployment.spec_replicas - len(living)
    return max(0, missing + sum(not pod.assigned for pod in living))


def _drain(decision: Decision, scene: Scene, living: Sequence[Pod], excess: int, going: int) -> Plan:
    leaving = scene.leaving
    unknown = decision.reason is Reason.DEMAND_UNKNOWN
    resting = excess > 0 and not leaving and scene.at < scene.again_at
    spared = _spared(decision, scene, living, excess, going)
    if unknown:
        spared = len(leaving)
    found = plan(
        _workers(scene),
        leaving,
        excess=0 if resting else max(spared, sum(victim.pod in scene.let_go for victim in leaving)),
        at=scene.at,
        deadline_seconds=scene.policy.drain_seconds,
        rolling_out=scene.deployment.rolling_out,
        let_go=scene.let_go,
    )
    if resting:
        seconds = scene.again_at - scene.at
        message = f"the last drain took too long: the next begins in {seconds:.0f} s"
        return replace(found, reason=DrainReason.DEADLINE, message=message)
    if not found.leaving and excess <= 0:
        return found
    if unknown:
        return _held(found, DrainReason.DEMAND_UNKNOWN, "who leaves is kept waiting: the demand is unknown")
    if scene.crew.unseen:
        message = f"{scene.crew.unseen} pods are not seen: do they carry the label {POOL_LABEL}?"
        return _held(found, DrainReason.WAITING_FOR_PODS, message)
    if spared < excess and not scene.deployment.rolling_out:
        found = _with_silent(found, scene, living)
    if scene.answerless:
        words = "no worker answers remote control, so only those idle by their heartbeats leave"
        return replace(found, message=f"{found.message}; {words}")
    return found


def _spared(decision: Decision, scene: Scene, living: Sequence[Pod], excess: int, going: int) -> int:
    speaking, chosen = scene.crew.speaking, {victim.pod for victim in scene.leaving}
    # One that `/scale` has let go is told to stop before the API server shows it, and then says nothing.
    silenced = sum(pod.name in chosen and pod.marked and pod.name not in speaking for pod in living)
    spared = len(speaking) + min(going, silenced) - decision.desired_replicas
    return min(excess, max(0, spared))


def _with_silent(found: Plan, scene: Scene, living: Sequence[Pod]) -> Plan:
    silent = len(living) - len(scene.crew.speaking)
    words = f"{silent} of {len(living)} workers say nothing, so as many others stay in their place"
    if found.leaving:
        return replace(found, message=f"{found.message}; {words}")
    return replace(found, reason=DrainReason.WORKERS_SILENT, message=words)


def _held(found: Plan, reason: DrainReason, message: str) -> Plan:
    return replace(found, mark=frozenset(), remove=0, reason=reason, message=message)


def _workers(scene: Scene) -> tuple[Worker, ...]:
    """The crew; where nobody answers, with those done of whom heartbeats say so."""
    if not scene.answerless:
        return scene.crew.workers
    return tuple(
        replace(worker, tasks=Count.exactly(0), stopped=True)
        if _idle(scene, scene.rests.get(worker.pod))
        else replace(worker, tasks=UNKNOWN)
        for worker in scene.crew.workers
    )


def _idle(scene: Scene, rest: Rest | None) -> bool:
    return (
        rest is not None
        and scene.quiet_since is not None
        and rest.last >= scene.quiet_since + LATE_SECONDS
        and rest.last >= scene.at - FRESH_SECONDS
        and rest.beats >= IDLE_BEATS
    )
