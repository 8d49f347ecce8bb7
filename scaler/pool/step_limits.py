"""The step limits of `behavior`: how far the replicas may go for now, with autoscaling/v2's meaning.

It owns the changes that such limits count (`ScaleEvent`) and the arithmetic of them. It reads no clock.

`scaler.pool.decision` asks it after the calm; the events are kept on the object's status by
`scaler.pool.status`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaler.contract import Policy, ScalingRules, SelectPolicy, StepLimit, StepType


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of the replicas by `change` (negative: fewer), for the step limits."""

    at: float
    change: int
    replicas: int | None = None
    """How many there were to be by it."""


def farthest(
    rules: ScalingRules, replicas: int, events: tuple[ScaleEvent, ...], at: float, *, sign: int
) -> int | None:
    """How far the limits let the replicas go, up (sign 1) or down (sign -1); None where there are none."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return replicas
    reaches = [_reach(limit, replicas, events, at, sign) for limit in rules.limits]
    if not reaches:
        return None
    greater = (rules.select_policy is SelectPolicy.MAX) == (sign > 0)
    # A limit that earlier steps have used up forbids more of them; it takes none back.
    return sign * max(sign * replicas, sign * (max(reaches) if greater else min(reaches)))


def _reach(limit: StepLimit, replicas: int, events: tuple[ScaleEvent, ...], at: float, sign: int) -> int:
    changed = sum(event.change for event in events if event.at > at - limit.period_seconds)
    start = replicas - changed
    if limit.type is StepType.PODS:
        return start + sign * limit.value
    share = start * (1 + sign * limit.value / 100)
    return math.ceil(share) if sign > 0 else math.floor(share)


def with_event(
    policy: Policy, events: tuple[ScaleEvent, ...], before: int, after: int, at: float
) -> tuple[ScaleEvent, ...]:
    """The events that step limits still need, with this change of the replicas if it is one."""
    limits = (*policy.behavior.scale_up.limits, *policy.behavior.scale_down.limits)
    if not limits:
        return ()
    longest = max(limit.period_seconds for limit in limits)
    kept = tuple(event for event in events if event.at > at - longest)
    return (*kept, ScaleEvent(at, after - before, after)) if after != before else kept
