"""A HorizontalPodAutoscaler on the queue's length over the model, alone and with KEDA's 0 <-> 1 around it.

It owns what others do: the length of the list is all they know of the demand, so a task that runs is
nobody's, and who is taken away is the ReplicaSet's choice. The rules of `behavior` are autoscaling/v2's,
whose step limits `scaler.pool.step_limits` has as well.

Sources: kubernetes/kubernetes pkg/controller/podautoscaler, replica_calculator.go
(GetExternalPerPodMetricReplicas) and horizontal.go (stabilizeRecommendationWithBehaviors,
convertDesiredReplicasWithBehaviorRate); keda.sh, ScaledObject specification (pollingInterval,
cooldownPeriod).
"""

from __future__ import annotations

import math
from typing import Any, Final

from scaler.contract import Behavior, Policy
from scaler.pool.step_limits import ScaleEvent, farthest, with_event
from scaler.simulate.site import Site

SYNC_SECONDS: Final = 15.0
LATE_SECONDS: Final = 0.001
POLL_SECONDS: Final = 30.0
COOLDOWN_SECONDS: Final = 300.0

DEFAULT_BEHAVIOR: Final[dict[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    },
}
"""kubernetes.io, "Horizontal Pod Autoscaling: default behavior"."""

Advice = tuple[float, int]
"""When, and how many replicas the metric asked for."""


def asked(current: int, length: int, average_value: int, behavior: Behavior) -> int:
    """What the metric asks for: ceil(length / averageValue), if that is out of tolerance of what there is."""
    ratio = length / (average_value * current)
    if 1 - behavior.scale_down.tolerance <= ratio <= 1 + behavior.scale_up.tolerance:
        return current
    return math.ceil(length / average_value)


def stabilized(current: int, wanted: int, advice: list[Advice], behavior: Behavior, at: float) -> int:
    """Not above the lowest advice of the window up, not below the highest of the window down."""
    up, down = behavior.scale_up.stabilization_seconds, behavior.scale_down.stabilization_seconds
    lowest = min([wanted, *(replicas for when, replicas in advice if when > at - up)])
    highest = max([wanted, *(replicas for when, replicas in advice if when > at - down)])
    return min(max(current, lowest), highest)


def limited(policy: Policy, current: int, wanted: int, events: tuple[ScaleEvent, ...], at: float) -> int:
    """Within the step limits and the bounds."""
    if wanted > current:
        limit = farthest(policy.behavior.scale_up, current, events, at, sign=1)
        return min(wanted, policy.max_replicas, wanted if limit is None else limit)
    if wanted < current:
        limit = farthest(policy.behavior.scale_down, current, events, at, sign=-1)
        return max(wanted, policy.min_replicas, wanted if limit is None else limit)
    return wanted


class Hpa:
    def __init__(self, policy: Policy, *, sync_seconds: float, phase: float) -> None:
        """`phase` is when it looks first: no one can choose it on a cluster."""
        self.next_at = phase
        self._policy = policy
        self._sync_seconds = sync_seconds
        self._advice: list[Advice] = []
        self._events: tuple[ScaleEvent, ...] = ()

    def act(self, site: Site) -> None:
        at, current, policy = site.now, site.spec, self._policy
        # The controller waits that long from the end of a sync, so a window of whole syncs has just passed.
        self.next_at += self._sync_seconds + LATE_SECONDS
        if current == 0:
            return  # replicas of 0 switch it off
        wanted = asked(current, site.queued, policy.average_value, policy.behavior)
        chosen = stabilized(current, wanted, self._advice, policy.behavior, at)
        replicas = limited(policy, current, chosen, self._events, at)
        window = max(
            policy.behavior.scale_up.stabilization_seconds, policy.behavior.scale_down.stabilization_seconds
        )
        self._advice = [advice for advice in self._advice if advice[0] > at - window]
        self._advice.append((at, wanted))
        self._events = with_event(policy, self._events, current, replicas, at)
        if replicas != current:
            site.scale(replicas)


class Keda:
    """KEDA's operator, which wakes a pool from 0 and lets it sleep, with the HPA that it makes."""

    def __init__(
        self, hpa: Hpa, *, sleeps: bool, poll_seconds: float, cooldown_seconds: float, phase: float
    ) -> None:
        self._hpa = hpa
        self._sleeps = sleeps
        self._poll_seconds = poll_seconds
        self._cooldown_seconds = cooldown_seconds
        self._poll_at = phase
        self._active_at = 0.0

    @property
    def next_at(self) -> float:
        return min(self._poll_at, self._hpa.next_at)

    def act(self, site: Site) -> None:
        if self._hpa.next_at <= site.now:
            self._hpa.act(site)
        if self._poll_at > site.now:
            return
        self._poll_at += self._poll_seconds
        if site.queued:
            self._active_at = site.now
            if site.spec == 0:
                site.scale(1)
        elif self._sleeps and site.spec and site.now - self._active_at >= self._cooldown_seconds:
            site.scale(0)
