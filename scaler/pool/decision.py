"""How many workers a pool should have, and why: a pure function of policy, observation and memory.

`decide` owns the arithmetic and nothing else: it reads no clock, no broker and no cluster, so that a
recorded load replays through it and a test row says all there is to say. The loop hands it what was
observed (`Observation`, with the time), carries `Memory` from tick to tick on the custom resource's
status, and acts on the `Decision`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from scaler.contract import Mode, Policy
from scaler.pool.calm import Wish, highest, lowest, with_wish
from scaler.pool.count import NOTHING, Count
from scaler.pool.step_limits import ScaleEvent, farthest, with_event
from scaler.pool.trace import Rule, Step

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
    held_for_later: bool = False
    """Workers hold messages that are not due and would look due in their queue, so the last one stays."""
    spec_replicas: int
    other_scaler: str | None = None
    """An autoscaler that acts on the same Deployment, as `kind/name`."""
    foreign_write: ForeignWrite | None = None
    """The newest change of the replicas, where it was not the scaler's."""

    @property
    def demand(self) -> Count:
        return self.queued + self.unacked + self.active


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
    steps: tuple[Step, ...] = field(default=(), compare=False, repr=False)
    """How it was computed, in the order of the recipe: `scaler.pool.trace` says what a step holds."""


def decide(policy: Policy, observation: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Decide one tick for one pool.

    1. demand: due queued and unacked messages over all queues and priorities, and running tasks that are
       acknowledged already, so each task once.
    2. wish: ceil(demand / averageValue) replicas. 250 messages at 100 each: 3 replicas. Where the
       demand is known in part, its lower bound may raise and only its upper bound may lower.
       Any task that is due within the time a worker needs to start wakes a pool from 0; the last worker
       stays for one that is due before it could have gone and come back, and for one that it holds where
       the broker would show it as due once nobody did.
    3. unknown: where no upper bound of the demand is known, the replicas do not fall.
    4. tolerance: a demand within 10 % of what the replicas are meant for changes nothing, but any
       demand wakes a pool from 0.
    5. calm: the highest wish of the last 60 s counts on the way down.
    6. step limits: "no more than 4 pods a minute".
    7. bounds: clamp to [minReplicas, maxReplicas]; nothing comes after it.
    """
    at, replicas = observation.at, observation.spec_replicas
    steps: list[Step] = []
    verdict = _hold(policy, observation)
    if verdict is not None:
        wish = replicas
        wishes = with_wish(policy.behavior, memory.wishes, replicas, wish, at)
        steps.append(Step(Rule.HOLD, replicas, replicas, {"message": verdict.message}))
    else:
        verdict = _wish(policy, observation, steps)
        wish = verdict.replicas
        wishes = with_wish(policy.behavior, memory.wishes, replicas, wish, at)
        # At a bound there is nothing to hold back or to limit: the bound alone is the reason.
        at_bound = wish < replicas <= policy.min_replicas or wish > replicas >= policy.max_replicas
        if not at_bound:
            verdict = _stabilize(policy, verdict, replicas, wishes, at, steps)
            verdict = _limit_steps(policy, verdict, replicas, memory.scale_events, at, steps)
        verdict = _clamp(policy, verdict, steps)
    decision = Decision(
        desired_replicas=verdict.replicas,
        reason=verdict.reason,
        message=f"{_in_shadow(policy, verdict, replicas)}{verdict.message}",
        limited=verdict.limited,
        steps=tuple(steps),
    )
    calm = max(wish, policy.min_replicas) < replicas
    return decision, Memory(
        wishes=wishes,
        scale_events=with_event(policy, memory.scale_events, replicas, verdict.replicas, at),
        calm_since=(at if memory.calm_since is None else memory.calm_since) if calm else None,
    )


def _in_shadow(policy: Policy, verdict: _Verdict, replicas: int) -> str:
    """What the message of a pool in shadow begins with, lest somebody takes it for done."""
    if policy.mode is not Mode.SHADOW:
        return ""
    if verdict.replicas == replicas:
        return f"in shadow, would keep {replicas}: "
    return f"in shadow, would set {verdict.replicas} instead of {replicas}: "


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the steps so far make of it."""

    replicas: int
    reason: Reason
    message: str
    limited: bool = False


def _hold(policy: Policy, observation: Observation) -> _Verdict | None:
    """The replicas stay whatever the demand is, even outside the bounds: somebody else decides."""
    replicas, foreign = observation.spec_replicas, observation.foreign_write
    if policy.paused:
        message = f"paused: {replicas} replicas are kept until paused is false"
        return _Verdict(replicas, Reason.PAUSED, message)
    if policy.mode is Mode.SHADOW:
        # Somebody else is meant to be there: what would be written if it were the scaler's turn is the point.
        return None
    if observation.other_scaler is not None:
        message = (
            f"{observation.other_scaler} scales {policy.deployment} too: its {replicas} replicas are left "
            "alone; delete one of the two"
        )
        return _Verdict(replicas, Reason.OTHER_SCALER, message)
    if foreign is not None:
        seconds = foreign.at + policy.behavior.scale_down.stabilization_seconds - observation.at
        if seconds > 0:
            message = f"{foreign.manager} set {replicas} replicas: kept for {seconds:.0f} s more"
            return _Verdict(replicas, Reason.CHANGED_ELSEWHERE, message)
    return None


def _wish(policy: Policy, observation: Observation, steps: list[Step]) -> _Verdict:
    demand, now, average = observation.demand, observation.spec_replicas, policy.average_value
    due_in = _due_soon(policy, observation)
    least = int(due_in is not None or (observation.held_for_later and now > 0))
    wanted = max(least, math.ceil(demand.low / average))
    enough = None if demand.high is None else max(least, math.ceil(demand.high / average))
    counts = {
        "queued": observation.queued,
        "unacked": observation.unacked,
        "active": observation.active,
        "demand": demand,
    }
    steps.append(Step(Rule.DEMAND, now, now, counts))
    if wanted > now:
        wish, reason = wanted, Reason.DEMAND_ROSE if demand.low else Reason.DUE_SOON
    elif enough is None:
        wish, reason = now, Reason.DEMAND_UNKNOWN
    elif enough < now:
        wish, reason = enough, Reason.DEMAND_FELL
    else:
        wish, reason = now, Reason.DEMAND_MET
    asked = {"averageValue": average, "atLeast": wanted, "atMost": enough, "dueInSeconds": due_in}
    steps.append(Step(Rule.WISH, now, wish, asked))
    if reason is Reason.DEMAND_UNKNOWN:
        steps.append(Step(Rule.UNKNOWN, now, now, {}))
    if wish != now and now:
        meant_for, behavior = now * average, policy.behavior
        low = meant_for * (1 - behavior.scale_down.tolerance)
        high = meant_for * (1 + behavior.scale_up.tolerance)
        asks = wish
        if demand.low <= high if wish > now else demand.high is not None and demand.high >= low:
            wish, reason = now, Reason.WITHIN_TOLERANCE
        steps.append(Step(Rule.TOLERANCE, asks, wish, {"from": low, "to": high}))
    return _Verdict(wish, reason, _arithmetic(observation, demand, average, due_in, wish))


def _due_soon(policy: Policy, observation: Observation) -> float | None:
    """In how many seconds the next ETA is due, where a worker is to be there for it; one is enough."""
    if observation.next_due is None:
        return None
    # Going and coming back takes the calm and the start: a worker that would be back by then only flaps.
    stay = policy.behavior.scale_down.stabilization_seconds if observation.spec_replicas else 0
    seconds = observation.next_due - observation.at
    return max(0.0, seconds) if seconds <= WAKE_SECONDS + stay else None


def _arithmetic(
    observation: Observation, demand: Count, average: int, due_in: float | None, wish: int
) -> str:
    parts = f"{observation.queued} queued + {observation.unacked} unacked"
    if observation.active.high != 0:
        parts += f" + {observation.active} running and acknowledged"
    if due_in is not None:
        parts += f", more due in {due_in:.0f} s"
    elif observation.held_for_later:
        parts += ", more held for later"
    now = observation.spec_replicas
    return f"demand {demand} ({parts}) at {average} a worker asks for {wish} of now {now}"


def _stabilize(
    policy: Policy, verdict: _Verdict, now: int, wishes: tuple[Wish, ...], at: float, steps: list[Step]
) -> _Verdict:
    asked = verdict.replicas
    if asked == now:
        return verdict
    if asked > now:
        rules, of, reason = policy.behavior.scale_up, "lowest", Reason.SCALE_UP_HELD
        limit = lowest(rules, wishes, at)
        held = max(now, min(asked, limit))
    else:
        rules, of, reason = policy.behavior.scale_down, "highest", Reason.SCALE_DOWN_HELD
        limit = highest(rules, wishes, at)
        held = min(now, max(asked, limit))
    seconds = rules.stabilization_seconds
    steps.append(Step(Rule.CALM, asked, held, {"seconds": seconds, "of": of, "limit": limit}))
    if held == asked:
        return verdict
    return _Verdict(held, reason, f"{verdict.message}; the {of} wish of the last {seconds} s is {limit}")


def _limit_steps(
    policy: Policy,
    verdict: _Verdict,
    now: int,
    events: tuple[ScaleEvent, ...],
    at: float,
    steps: list[Step],
) -> _Verdict:
    asked = verdict.replicas
    if asked == now:
        return verdict
    if asked > now:
        limit = farthest(policy.behavior.scale_up, now, events, at, sign=1)
        allowed = asked if limit is None else min(asked, limit)
    else:
        limit = farthest(policy.behavior.scale_down, now, events, at, sign=-1)
        allowed = asked if limit is None else max(asked, limit)
    steps.append(Step(Rule.STEP_LIMITS, asked, allowed, {"limit": limit}))
    if allowed == asked:
        return verdict
    message = f"{verdict.message}; behavior allows {allowed} for now"
    return _Verdict(allowed, Reason.STEP_LIMITED, message, limited=True)


def _clamp(policy: Policy, verdict: _Verdict, steps: list[Step]) -> _Verdict:
    asked, least, most = verdict.replicas, policy.min_replicas, policy.max_replicas
    if asked > most:
        message = f"{verdict.message}; maxReplicas is {most}"
        verdict = _Verdict(most, Reason.AT_MAXIMUM, message, limited=True)
    elif asked < least:
        verdict = _Verdict(least, Reason.AT_MINIMUM, f"{verdict.message}; minReplicas is {least}")
    steps.append(Step(Rule.BOUNDS, asked, verdict.replicas, {"minReplicas": least, "maxReplicas": most}))
    return verdict
