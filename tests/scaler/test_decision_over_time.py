"""Decisions over time, and the laws that hold for every policy, load and memory."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scaler.contract import Policy, ScalingRules
from scaler.pool.calm import Wish
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Memory, Observation, Reason, decide
from tests.scaler.courses import counts, courses, policies, remember
from tests.scaler.samples import AT, behavior, observation, pods, policy, rules

CALM = behavior(down=ScalingRules(stabilization_seconds=60))


def play(given_policy: Policy, loads: list[tuple[float, int | Count]], replicas: int) -> list[int]:
    """Feed (seconds, demand) one after another, each decision carried out at once."""
    memory = Memory()
    course = []
    for seconds, demand in loads:
        seen = observation(demand, replicas=replicas, at=AT + seconds)
        decision, memory = decide(given_policy, seen, memory)
        replicas = decision.desired_replicas
        course.append(replicas)
    return course


def test_flood_goes_up_at_once_and_down_after_the_calm() -> None:
    """3 x 10,000 tasks: 2 -> 4 in one tick, back to 2 when 60 s have passed since the last wish for more."""
    pool = policy(max_replicas=4, behavior=CALM)
    loads: list[tuple[float, int | Count]] = [(0, 0), (2, 30_000), (4, 20_000), (6, 301), (8, 0)]
    loads += [(60, 0), (65.9, 0), (66, 0)]

    assert play(pool, loads, replicas=2) == [2, 4, 4, 4, 4, 4, 4, 2]  # 301 at 6 s asked for 4; 6 + 60


def test_second_flood_in_the_calm_starts_the_calm_again() -> None:
    """A short pause between floods costs no worker."""
    pool = policy(max_replicas=4, behavior=CALM)
    loads: list[tuple[float, int | Count]] = [(0, 400), (30, 0), (50, 400), (100, 0), (109, 0), (110, 0)]

    assert play(pool, loads, replicas=4) == [4, 4, 4, 4, 4, 2]  # 50 + 60


def test_outage_in_the_calm_keeps_the_replicas_and_prolongs_it() -> None:
    """What is not known asks for what there is, and that wish counts for the calm like any other."""
    pool = policy(max_replicas=4, behavior=CALM)
    loads: list[tuple[float, int | Count]] = [(0, 0), (40, UNKNOWN), (70, 0), (99, 0), (100, 0)]

    assert play(pool, loads, replicas=4) == [4, 4, 4, 4, 2]  # 40 + 60


def test_four_pods_a_minute_climb_in_steps() -> None:
    """A step limit spreads a flood over minutes, whatever the tick."""
    pool = policy(max_replicas=20, behavior=behavior(up=rules(pods(4))))
    loads: list[tuple[float, int | Count]] = [(0, 9000), (2, 9000), (59.9, 9000), (60, 9000), (62, 9000)]

    assert play(pool, loads, replicas=2) == [6, 6, 6, 10, 10]  # 2 + 4, then 6 + 4


def test_restart_in_the_calm_starts_it_again() -> None:
    """A scaler that remembers no wishes takes the present replicas as the last one."""
    pool = policy(max_replicas=4, behavior=CALM)
    _, memory = decide(pool, observation(0, replicas=4, at=AT), Memory(wishes=(Wish(4, AT - 58, AT - 58),)))
    restarted = replace(memory, wishes=())

    after, _ = decide(pool, observation(0, replicas=4, at=AT + 2), memory)
    again, _ = decide(pool, observation(0, replicas=4, at=AT + 2), restarted)

    assert (after.desired_replicas, again.desired_replicas) == (2, 4)


law = settings(max_examples=1_700)
"""Six of them: 10,000 examples in all."""


@law
@given(policies(), courses())
def test_bounds_hold(pool: Policy, course: list[Observation]) -> None:
    """Law 2: nothing leaves [min, max], whatever was seen and remembered."""
    memory = Memory()
    for seen in course:
        decision, memory = decide(pool, seen, memory)
        assert pool.min_replicas <= decision.desired_replicas <= pool.max_replicas


@law
@given(policies(), courses(), st.integers(0, 10**7))
def test_unknown_never_lowers(pool: Policy, course: list[Observation], low: int) -> None:
    """Law 1: where no upper bound of the demand is known, only the bounds lower the replicas."""
    *past, last = course
    unknown = replace(last, queued=Count(low, None))

    decision, _ = decide(pool, unknown, remember(pool, past))

    assert decision.desired_replicas >= min(last.spec_replicas, pool.max_replicas)


@law
@given(policies(), courses(), st.integers(0, 10**6))
def test_more_demand_never_means_fewer(pool: Policy, course: list[Observation], more: int) -> None:
    """Monotone: adding messages to the same moment cannot cost a worker."""
    *past, last = course
    memory = remember(pool, past)
    fuller = replace(last, queued=last.queued + Count.exactly(more))

    assert decide(pool, fuller, memory)[0].desired_replicas >= decide(pool, last, memory)[0].desired_replicas


@law
@given(policies(), courses())
def test_knowing_less_never_means_fewer(pool: Policy, course: list[Observation]) -> None:
    """Law 1 from the other side: losing the upper bound of what was known exactly cannot cost a worker."""
    *past, last = course
    memory = remember(pool, past)
    known = replace(last, queued=Count.exactly(last.queued.low), unacked=Count.exactly(last.unacked.low))
    less = replace(known, unacked=Count(known.unacked.low, None))

    assert decide(pool, less, memory)[0].desired_replicas >= decide(pool, known, memory)[0].desired_replicas


@law
@given(policies(), courses())
def test_step_is_never_doubled_by_a_restart(pool: Policy, course: list[Observation]) -> None:
    """Law 5: with the events of the status and no wishes, a second decision at once steps no further."""
    *past, last = course
    decision, memory = decide(pool, last, remember(pool, past))
    assume(decision.reason is not Reason.AT_MINIMUM)
    restarted = Memory(scale_events=memory.scale_events, calm_since=memory.calm_since)
    made = replace(last, spec_replicas=decision.desired_replicas, at=last.at + 0.001)

    second, _ = decide(pool, made, restarted)

    change, again = decision.desired_replicas - last.spec_replicas, second.desired_replicas
    limits = pool.behavior.scale_up.limits if change > 0 else pool.behavior.scale_down.limits
    if change > 0 and limits:
        assert again <= decision.desired_replicas
    if change < 0 and limits:
        assert again >= decision.desired_replicas


@law
@given(policies(), counts, st.integers(0, 250))
def test_same_again_decides_the_same(pool: Policy, demand: Count, replicas: int) -> None:
    """Idempotent: once a decision is carried out and nothing changes, nothing more is decided at once."""
    pool = replace(pool, behavior=behavior())
    seen = Observation(at=AT, queued=demand, unacked=Count.exactly(0), spec_replicas=replicas)
    first, memory = decide(pool, seen, Memory())
    made = replace(seen, spec_replicas=first.desired_replicas, at=AT + 2)

    second, _ = decide(pool, made, memory)

    assert second.desired_replicas == first.desired_replicas
