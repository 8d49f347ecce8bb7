"""Objects with every field at a plain default, so that a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scaler.contract import Behavior, Policy, ScalingRules, StepLimit, StepType
from scaler.pool.count import Count
from scaler.pool.decision import Observation

AT = 1_704_067_200.0
"""The first second of 2024, as good as any."""


def policy(**changes: Any) -> Policy:
    """100 messages a worker, 2 to 10 workers, down as soon as the demand falls."""
    plain = Policy(
        deployment="sums-celery-worker",
        queues=("sums",),
        min_replicas=2,
        max_replicas=10,
        average_value=100,
        behavior=behavior(),
    )
    return replace(plain, **changes)


def behavior(*, up: ScalingRules | None = None, down: ScalingRules | None = None) -> Behavior:
    at_once = ScalingRules(stabilization_seconds=0)
    return Behavior(scale_up=up or at_once, scale_down=down or at_once)


def rules(*limits: StepLimit, **changes: Any) -> ScalingRules:
    return replace(ScalingRules(stabilization_seconds=0), limits=limits, **changes)


def pods(value: int, period_seconds: int = 60) -> StepLimit:
    return StepLimit(type=StepType.PODS, value=value, period_seconds=period_seconds)


def percent(value: int, period_seconds: int = 60) -> StepLimit:
    return StepLimit(type=StepType.PERCENT, value=value, period_seconds=period_seconds)


def observation(
    queued: int | Count = 0, unacked: int | Count = 0, *, replicas: int = 4, at: float = AT, **changes: Any
) -> Observation:
    return Observation(at=at, queued=count(queued), unacked=count(unacked), spec_replicas=replicas, **changes)


def count(value: int | Count) -> Count:
    return Count.exactly(value) if isinstance(value, int) else value


def spec(**target: Any) -> dict[str, Any]:
    """`spec` of a `Celery` object."""
    return {
        "common": {"appName": "sums", "celeryApp": "sums.tasks:app", "image": "sums:1"},
        "workerSpec": {"numOfWorkers": 2, "queues": "sums", "concurrency": 2},
        "scaleTargetRef": [
            {
                "kind": "worker",
                "minReplicas": 2,
                "maxReplicas": 10,
                "metrics": [{"name": "message_queue", "target": {"type": "length", "averageValue": 100}}],
                **target,
            }
        ],
    }
