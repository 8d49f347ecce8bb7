"""A decision's trace: the steps that were taken, each with its numbers and its sentence."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings

from scaler.contract import Policy, ScalingRules
from scaler.pool.calm import Wish
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import ForeignWrite, Memory, Observation, decide
from scaler.pool.trace import Rule, document, sentence
from tests.scaler.courses import courses, policies, remember
from tests.scaler.samples import AT, behavior, observation, pods, policy, rules

CALM = behavior(down=ScalingRules(stabilization_seconds=60))

ROWS = [
    pytest.param(
        policy(),
        observation(4000, 1000, active=Count(0, 4)),
        Memory(),
        [
            (
                Rule.DEMAND,
                4,
                "4000 queued + 1000 unacked + 0 to 4 running and acknowledged = 5000 to 5004",
            ),
            (Rule.WISH, 50, "at 100 a worker, rounded up, that asks for 50 to 51"),
            (Rule.TOLERANCE, 50, "a demand from 360 to 440 changes nothing"),
            (Rule.CALM, 50, "behavior looks back on no earlier wishes"),
            (Rule.STEP_LIMITS, 50, "behavior sets no limit"),
            (Rule.BOUNDS, 10, "not below 2, not above 10"),
        ],
        id="a flood goes through every step and is clamped by the last",
    ),
    pytest.param(
        policy(),
        observation(440),
        Memory(),
        [
            (Rule.DEMAND, 4, "440 queued + 0 unacked + 0 running and acknowledged = 440"),
            (Rule.WISH, 5, "at 100 a worker, rounded up, that asks for 5"),
            (Rule.TOLERANCE, 4, "a demand from 360 to 440 changes nothing"),
            (Rule.BOUNDS, 4, "not below 2, not above 10"),
        ],
        id="within the tolerance there is nothing for calm and step limits to do",
    ),
    pytest.param(
        policy(behavior=CALM),
        observation(120),
        Memory(wishes=(Wish(3, AT - 40, AT - 30),)),
        [
            (Rule.DEMAND, 4, "120 queued + 0 unacked + 0 running and acknowledged = 120"),
            (Rule.WISH, 2, "at 100 a worker, rounded up, that asks for 2"),
            (Rule.TOLERANCE, 2, "a demand from 360 to 440 changes nothing"),
            (Rule.CALM, 3, "the highest wish of the last 60 s is 3"),
            (Rule.STEP_LIMITS, 3, "behavior sets no limit"),
            (Rule.BOUNDS, 3, "not below 2, not above 10"),
        ],
        id="the calm holds a part of the way down",
    ),
    pytest.param(
        policy(behavior=behavior(up=rules(pods(1)))),
        observation(900),
        Memory(),
        [
            (Rule.DEMAND, 4, "900 queued + 0 unacked + 0 running and acknowledged = 900"),
            (Rule.WISH, 9, "at 100 a worker, rounded up, that asks for 9"),
            (Rule.TOLERANCE, 9, "a demand from 360 to 440 changes nothing"),
            (Rule.CALM, 9, "behavior looks back on no earlier wishes"),
            (Rule.STEP_LIMITS, 5, "behavior allows 5 for now"),
            (Rule.BOUNDS, 5, "not below 2, not above 10"),
        ],
        id="a step limit",
    ),
    pytest.param(
        policy(),
        observation(Count(250, None), UNKNOWN),
        Memory(),
        [
            (
                Rule.DEMAND,
                4,
                "at least 250 queued + at least 0 unacked + 0 running and acknowledged = at least 250",
            ),
            (Rule.WISH, 4, "at 100 a worker, rounded up, that asks for at least 3"),
            (Rule.UNKNOWN, 4, "no upper bound of the demand is known: not fewer than there are"),
            (Rule.BOUNDS, 4, "not below 2, not above 10"),
        ],
        id="what is not known never reads as 0",
    ),
    pytest.param(
        policy(min_replicas=0),
        observation(0, replicas=0, next_due=AT + 12),
        Memory(),
        [
            (Rule.DEMAND, 0, "0 queued + 0 unacked + 0 running and acknowledged = 0"),
            (
                Rule.WISH,
                1,
                "at 100 a worker, rounded up, that asks for 1; one is due in 12 s: at least 1",
            ),
            (Rule.CALM, 1, "behavior looks back on no earlier wishes"),
            (Rule.STEP_LIMITS, 1, "behavior sets no limit"),
            (Rule.BOUNDS, 1, "not below 0, not above 10"),
        ],
        id="a pool that wakes for a task knows no tolerance",
    ),
    pytest.param(
        policy(paused=True),
        observation(900),
        Memory(),
        [(Rule.HOLD, 4, "paused: 4 replicas are kept until paused is false")],
        id="a hold is the only step",
    ),
    pytest.param(
        policy(behavior=CALM),
        observation(900, foreign_write=ForeignWrite(manager="kubectl", at=AT - 20)),
        Memory(),
        [(Rule.HOLD, 4, "kubectl set 4 replicas: kept for 40 s more")],
        id="and says until when",
    ),
]


@pytest.mark.parametrize(("given_policy", "seen", "memory", "steps"), ROWS)
def test_steps_are_told_in_the_order_of_the_recipe(
    given_policy: Policy, seen: Observation, memory: Memory, steps: list[tuple[Rule, int, str]]
) -> None:
    """Rule, replicas asked for after it, and what it reckoned."""
    decision, _ = decide(given_policy, seen, memory)

    assert [(step.rule, step.after, sentence(step)) for step in decision.steps] == steps


def test_json_holds_the_numbers_and_no_zero_for_the_unknown() -> None:
    """A count is a number where it is certain, else its bounds; null is no bound."""
    decision, _ = decide(policy(), observation(Count(250, None), 3, active=Count(1, 4)), Memory())

    assert json.loads(json.dumps(document(decision.steps)))[:2] == [
        {
            "rule": "demand",
            "before": 4,
            "after": 4,
            "figures": {"queued": [250, None], "unacked": 3, "active": [1, 4], "demand": [254, None]},
            "sentence": ("at least 250 queued + 3 unacked + 1 to 4 running and acknowledged = at least 254"),
        },
        {
            "rule": "wish",
            "before": 4,
            "after": 4,
            "figures": {"averageValue": 100, "atLeast": 3, "atMost": None, "dueInSeconds": None},
            "sentence": "at 100 a worker, rounded up, that asks for at least 3",
        },
    ]


@settings(max_examples=300)
@given(policies(), courses())
def test_the_trace_is_the_decision(pool: Policy, course: list[Observation]) -> None:
    """It begins with the replicas there are, no step is left out, and it ends where the decision does."""
    *past, last = course
    decision, _ = decide(pool, last, remember(pool, past))

    steps = decision.steps
    assert steps[0].before == last.spec_replicas
    assert all(earlier.after == later.before for earlier, later in pairwise(steps))
    assert steps[-1].after == decision.desired_replicas
    assert json.dumps(document(steps))
