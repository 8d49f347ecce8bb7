"""Any policy, and any course of observations: what the laws of the decision are tried on."""

from __future__ import annotations

from hypothesis import strategies as st

from scaler.contract import Policy, ScalingRules, SelectPolicy, StepLimit, StepType
from scaler.pool.count import Count
from scaler.pool.decision import Memory, Observation, decide
from tests.scaler.samples import AT, behavior, policy

counts = st.builds(
    lambda low, more: Count(low, None if more is None else low + more),
    st.integers(0, 10**7),
    st.none() | st.integers(0, 10**7),
)
step_limits = st.builds(
    StepLimit,
    type=st.sampled_from(StepType),
    value=st.integers(1, 200),
    period_seconds=st.integers(1, 1800),
)
scaling_rules = st.builds(
    ScalingRules,
    stabilization_seconds=st.integers(0, 300),
    select_policy=st.sampled_from(SelectPolicy),
    limits=st.lists(step_limits, max_size=3).map(tuple),
    tolerance=st.floats(0, 1),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    low, high = sorted((draw(st.integers(0, 200)), draw(st.integers(1, 200))))
    return policy(
        min_replicas=low,
        max_replicas=max(high, 1),
        average_value=draw(st.integers(1, 1000)),
        behavior=behavior(up=draw(scaling_rules), down=draw(scaling_rules)),
    )


@st.composite
def courses(draw: st.DrawFn) -> list[Observation]:
    """Observations in the order of their times; each one's replicas are whatever they are."""
    at, course = AT, []
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.floats(0.1, 120))
        replicas = draw(st.integers(0, 250))
        course.append(Observation(at=at, queued=draw(counts), unacked=draw(counts), spec_replicas=replicas))
    return course


def remember(pool: Policy, course: list[Observation]) -> Memory:
    memory = Memory()
    for seen in course:
        _, memory = decide(pool, seen, memory)
    return memory
