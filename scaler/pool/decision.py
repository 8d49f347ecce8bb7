"""How many workers a pool should have, and why: a pure function of policy, observation and memory.

`decide` owns the arithmetic and nothing else: it reads no clock, no broker and no cluster, so that a
recorded load replays through it and a test row says all there is to say. The loop hands it what was
observed (`Observation`, with the time), carries `Memory` from tick to tick on the custom resource's
status, and acts on the `Decision`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from scaler.contract import Mode, Policy, ScalingRules, SelectPolicy, StepLimit, StepType
from scaler.pool.count import NOTHING, Count

WAKE_SECONDS = 20.0
"""Time before a task is due at which a pool without workers is given one: for a poll, the container's
start and the app's imports. Too low makes the task late; too high keeps a worker idle for as long."""


class Reason(StrEnum):
    """Why the replicas are what they are; also the reason of events, conditions and metrics."""

    DEMAND_ROSE = "DemandRose"
    DEMAND_FELL = "DemandFell"
    DEMAND_MET = "DemandMet"
    DUE_SOON = "DueSoon"
    WITHIN_TOLERANCE = "WithinTolerance"
    SCALE_UP_HELD = "ScaleUpHeld"
    SCALE_DOWN_HELD = "ScaleDownHeld"
    STEP_LIMITED = "StepLimited"
    AT_MINIMUM = "AtMinimum"
    AT_MAXIMUM = "AtMaximum"
    DEMAND_UNKNOWN = "DemandUnknown"
    PAUSED = "Paused"
    OTHER_SCALER = "OtherScaler"
    CHANGED_ELSEWHERE = "ChangedElsewhere"


HOLDS = frozenset({Reason.DEMAND_UNKNOWN, Reason.PAUSED, Reason.OTHER_SCALER, Reason.CHANGED_ELSEWHERE})
"""The reasons for which the replicas stay because something is unknown or somebody else decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignWrite:
    """Somebody else changed the Deployment's replicas, for example `kubectl scale`."""

    manager: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one tick saw. Times are seconds since the epoch."""

    at: float
    queued: Count
    """Messages in the queues that are due."""
    unacked: Count
    """Messages that are due, delivered and not acknowledged."""
    active: Count = NOTHING
    """Running tasks whose messages are acknowledged, so that no broker knows them."""
    next_due: float | None = None
    """When the first message that is not due will be."""
    spec_replicas: int
    other_scaler: str | None = None
    """An autoscaler that acts on the same Deployment, as `kind/name`."""
    foreign_write: ForeignWrite | None = None
    """The newest change of the replicas, where it was not the scaler's."""

    @property
    def demand(self) -> Count:
        return self.queued + self.unacked + self.active


@dataclass(frozen=True, slots=True)
class Wish:
    """A number of replicas that the demand asked for without a break from `since` to `until`."""

    replicas: int
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of the replicas by `change` (negative: fewer), for the step limits."""

    at: float
    change: int
    replicas: int | None = None
    """How many there were to be by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the next decision needs of the earlier ones.

    `scale_events` and `calm_since` live on the object's status. `wishes` do not: a scaler that starts
    takes the present replicas as the last wish, so a calm window starts again and never ends early.
    """

    wishes: tuple[Wish, ...] = ()
    scale_events: tuple[ScaleEvent, ...] = ()
    calm_since: float | None = None
    """Since when fewer replicas than there are would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    desired_replicas: int
    reason: Reason
    message: str
    """One sentence with the numbers, for people."""
    limited: bool = False
    """The demand asks for something that bounds or step limits do not allow."""


def decide(policy: Policy, observation: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Decide one tick for one pool.

    1. demand: due queued and unacked messages over all queues and priorities, and running tasks that are
       acknowledged already, so each task once.
    2. wish: ceil(demand / averageValue) replicas. 250 messages at 100 each: 3 replicas. Where the
       demand is known in part, its lower bound may raise and only its upper bound may lower.
    3. tolerance: a demand within 10 % of what the replicas are meant for changes nothing, but any
       demand wakes a pool from 0, and so does a task that is due within the time a worker needs to
       start; the last worker stays for one that is due before it could have gone and come back.
       Calm: the highest wish of the last 60 s counts on the way down.
       Step limits: "no more than 4 pods a minute".
    4. unknown: where no upper bound of the demand is known, the replicas do not fall.
    5. bounds: clamp to [minReplicas, maxReplicas]; nothing comes after it.
    """
    at, replicas = observation.at, observation.spec_replicas
    hold = _hold(policy, observation)
    wish, why = _wish(policy, observation) if hold is None else (replicas, hold.reason)
    wishes = _with_wish(policy, memory.wishes, replicas, wish, at)
    if hold is not None:
        step = hold
    else:
        step = _Step(wish, why, _arithmetic(policy, observation, wish))
        # At a bound there is nothing to hold back or to limit: the bound alone is the reason.
        at_bound = wish < replicas <= policy.min_replicas or wish > replicas >= policy.max_replicas
        if not at_bound:
            step = _stabilize(policy, step, replicas, wishes, at)
            step = _limit_steps(policy, step, replicas, memory.scale_events, at)
        step = _clamp(policy, step)
    decision = Decision(
        desired_replicas=step.replicas,
        reason=step.reason,
        message=f"{_in_shadow(policy, step, replicas)}{step.message}",
        limited=step.limited,
    )
    calm = max(wish, policy.min_replicas) < replicas
    return decision, Memory(
        wishes=wishes,
        scale_events=with_event(policy, memory.scale_events, replicas, step.replicas, at),
        calm_since=(at if memory.calm_since is None else memory.calm_since) if calm else None,
    )


def _in_shadow(policy: Policy, step: _Step, replicas: int) -> str:
    """What the message of a pool in shadow begins with, lest somebody takes it for done."""
    if policy.mode is not Mode.SHADOW:
        return ""
    if step.replicas == replicas:
        return f"in shadow, would keep {replicas}: "
    return f"in shadow, would set {step.replicas} instead of {replicas}: "


@dataclass(frozen=True, slots=True)
class _Step:
    replicas: int
    reason: Reason
    message: str
    limited: bool = False


def _hold(policy: Policy, observation: Observation) -> _Step | None:
    """The replicas stay whatever the demand is, even outside the bounds: somebody else decides."""
    replicas, foreign = observation.spec_replicas, observation.foreign_write
    if policy.paused:
        message = f"paused: {replicas} replicas are kept until paused is false"
        return _Step(replicas, Reason.PAUSED, message)
    if policy.mode is Mode.SHADOW:
        # Somebody else is meant to be there: what would be written if it were the scaler's turn is the point.
        return None
    if observation.other_scaler is not None:
        message = (
            f"{observation.other_scaler} scales {policy.deployment} too: its {replicas} replicas are left "
            "alone; delete one of the two"
        )
        return _Step(replicas, Reason.OTHER_SCALER, message)
    if foreign is not None:
        seconds = foreign.at + policy.behavior.scale_down.stabilization_seconds - observation.at
        if seconds > 0:
            message = f"{foreign.manager} set {replicas} replicas: kept for {seconds:.0f} s more"
            return _Step(replicas, Reason.CHANGED_ELSEWHERE, message)
    return None


def _wish(policy: Policy, observation: Observation) -> tuple[int, Reason]:
    demand, replicas = observation.demand, observation.spec_replicas
    least = int(_due_soon(policy, observation))
    meant_for = replicas * policy.average_value
    wanted = math.ceil(demand.low / policy.average_value)
    if least > max(wanted, replicas):
        return least, Reason.DUE_SOON
    if wanted > replicas:
        if replicas and demand.low <= meant_for * (1 + policy.behavior.scale_up.tolerance):
            return replicas, Reason.WITHIN_TOLERANCE
        return wanted, Reason.DEMAND_ROSE
    if demand.high is None:
        return replicas, Reason.DEMAND_UNKNOWN
    enough = max(least, math.ceil(demand.high / policy.average_value))
    if enough < replicas:
        if demand.high >= meant_for * (1 - policy.behavior.scale_down.tolerance):
            return replicas, Reason.WITHIN_TOLERANCE
        return enough, Reason.DEMAND_FELL
    return replicas, Reason.DEMAND_MET


def _due_soon(policy: Policy, observation: Observation) -> bool:
    """Whether a worker is to be there for the next ETA, which one worker holds as well as many."""
    if observation.next_due is None:
        return False
    # Going and coming back takes the calm and the start: a worker that would be back by then only flaps.
    stay = policy.behavior.scale_down.stabilization_seconds if observation.spec_replicas else 0
    return observation.next_due - observation.at <= WAKE_SECONDS + stay


def _arithmetic(policy: Policy, observation: Observation, wish: int) -> str:
    parts = f"{observation.queued} queued + {observation.unacked} unacked"
    if observation.active.high != 0:
        parts += f" + {observation.active} running and acknowledged"
    if observation.next_due is not None and _due_soon(policy, observation):
        parts += f", more due in {max(0.0, observation.next_due - observation.at):.0f} s"
    return (
        f"demand {observation.demand} ({parts}) at {policy.average_value} a worker "
        f"asks for {wish} of now {observation.spec_replicas}"
    )


def _with_wish(
    policy: Policy, wishes: tuple[Wish, ...], replicas: int, wish: int, at: float
) -> tuple[Wish, ...]:
    if not wishes:
        wishes = (Wish(replicas, at, at),)
    last = wishes[-1]
    if last.replicas == wish:
        wishes = (*wishes[:-1], replace(last, until=at))
    else:
        wishes = (*wishes, Wish(wish, at, at))
    behavior = policy.behavior
    window = max(behavior.scale_up.stabilization_seconds, behavior.scale_down.stabilization_seconds)
    return tuple(past for past in wishes if past.until > at - window or past is wishes[-1])


def _stabilize(policy: Policy, step: _Step, replicas: int, wishes: tuple[Wish, ...], at: float) -> _Step:
    up, down = policy.behavior.scale_up, policy.behavior.scale_down
    if step.replicas > replicas:
        lowest = min(wish.replicas for wish in _within(up, wishes, at))
        held = max(replicas, lowest)
        if held < step.replicas:
            return _Step(
                held,
                Reason.SCALE_UP_HELD,
                f"{step.message}; the lowest wish of the last {up.stabilization_seconds} s is {lowest}",
            )
    elif step.replicas < replicas:
        highest = max(wish.replicas for wish in _within(down, wishes, at))
        held = min(replicas, highest)
        if held > step.replicas:
            return _Step(
                held,
                Reason.SCALE_DOWN_HELD,
                f"{step.message}; the highest wish of the last {down.stabilization_seconds} s is {highest}",
            )
    return step


def _within(rules: ScalingRules, wishes: tuple[Wish, ...], at: float) -> tuple[Wish, ...]:
    begin = at - rules.stabilization_seconds
    return tuple(wish for wish in wishes if wish.until > begin) or wishes[-1:]


def _limit_steps(
    policy: Policy, step: _Step, replicas: int, events: tuple[ScaleEvent, ...], at: float
) -> _Step:
    if step.replicas > replicas:
        rules = policy.behavior.scale_up
        bound = _bound(rules, replicas, events, at, sign=1)
        allowed = max(replicas, min(step.replicas, bound))
    elif step.replicas < replicas:
        rules = policy.behavior.scale_down
        bound = _bound(rules, replicas, events, at, sign=-1)
        allowed = min(replicas, max(step.replicas, bound))
    else:
        return step
    if allowed == step.replicas:
        return step
    return _Step(
        allowed, Reason.STEP_LIMITED, f"{step.message}; behavior allows {allowed} for now", limited=True
    )


def _bound(rules: ScalingRules, replicas: int, events: tuple[ScaleEvent, ...], at: float, sign: int) -> int:
    """How far the step limits let the replicas go, up (sign 1) or down (sign -1)."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return replicas
    reaches = [_reach(limit, replicas, events, at, sign) for limit in rules.limits]
    if not reaches:
        return replicas + sign * 10**9
    farthest = (rules.select_policy is SelectPolicy.MAX) == (sign > 0)
    return max(reaches) if farthest else min(reaches)


def _reach(limit: StepLimit, replicas: int, events: tuple[ScaleEvent, ...], at: float, sign: int) -> int:
    changed = sum(event.change for event in events if event.at > at - limit.period_seconds)
    start = replicas - changed
    if limit.type is StepType.PODS:
        return start + sign * limit.value
    share = start * (1 + sign * limit.value / 100)
    return math.ceil(share) if sign > 0 else math.floor(share)


def _clamp(policy: Policy, step: _Step) -> _Step:
    if step.replicas > policy.max_replicas:
        return _Step(
            policy.max_replicas,
            Reason.AT_MAXIMUM,
            f"{step.message}; maxReplicas is {policy.max_replicas}",
            limited=True,
        )
    if step.replicas < policy.min_replicas:
        return _Step(
            policy.min_replicas,
            Reason.AT_MINIMUM,
            f"{step.message}; minReplicas is {policy.min_replicas}",
        )
    return step


def with_event(
    policy: Policy, events: tuple[ScaleEvent, ...], before: int, after: int, at: float
) -> tuple[ScaleEvent, ...]:
    """The events that step limits still need, with this change of the replicas if it is one."""
    limits = (*policy.behavior.scale_up.limits, *policy.behavior.scale_down.limits)
    longest = max((limit.period_seconds for limit in limits), default=0)
    kept = tuple(event for event in events if event.at > at - longest)
    return (*kept, ScaleEvent(at, after - before, after)) if longest and after != before else kept
