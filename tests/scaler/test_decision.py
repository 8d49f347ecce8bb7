"""One decision: a policy and an observation in, a number and its reason out."""

from __future__ import annotations

import pytest

from scaler.contract import Policy, ScalingRules, SelectPolicy
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, ForeignWrite, Memory, Observation, Reason, decide
from scaler.pool.step_limits import ScaleEvent
from tests.scaler.samples import AT, behavior, observation, percent, pods, policy, rules

AT_LEAST_300 = Count(300, None)

ROWS = [
    # up
    pytest.param(
        policy(), observation(500), 5, Reason.DEMAND_ROSE, id="demand above the replicas raises them"
    ),  # 500 / 100
    pytest.param(
        policy(), observation(401, 100), 6, Reason.DEMAND_ROSE, id="a started worker counts whole"
    ),  # ceil(501 / 100)
    pytest.param(
        policy(), observation(0, 700), 7, Reason.DEMAND_ROSE, id="what workers hold is demand as well"
    ),  # 700 / 100
    pytest.param(
        policy(), observation(5000), 10, Reason.AT_MAXIMUM, id="the maximum ends every rise"
    ),  # min(50, 10)
    pytest.param(
        policy(min_replicas=0),
        observation(1, replicas=0),
        1,
        Reason.DEMAND_ROSE,
        id="one message wakes a pool",
    ),  # ceil(1 / 100)
    pytest.param(
        policy(), observation(10**18), 10, Reason.AT_MAXIMUM, id="a length beyond belief stays within bounds"
    ),
    # tolerance
    pytest.param(
        policy(),
        observation(440),
        4,
        Reason.WITHIN_TOLERANCE,
        id="10 % above what they are meant for is no reason",
    ),  # 400 * 1.1
    pytest.param(
        policy(), observation(441), 5, Reason.DEMAND_ROSE, id="more than 10 % above is"
    ),  # ceil(441 / 100)
    pytest.param(
        policy(min_replicas=1, average_value=10),
        observation(90, replicas=10),
        10,
        Reason.WITHIN_TOLERANCE,
        id="10 % below is no reason either",
    ),  # 100 * 0.9
    # down
    pytest.param(
        policy(), observation(300), 3, Reason.DEMAND_FELL, id="demand below lowers them"
    ),  # 300 / 100
    pytest.param(
        policy(), observation(0), 2, Reason.AT_MINIMUM, id="the minimum ends every fall"
    ),  # max(0, 2)
    pytest.param(
        policy(min_replicas=0),
        observation(0),
        0,
        Reason.DEMAND_FELL,
        id="nothing to do means nobody, if allowed",
    ),
    pytest.param(
        policy(behavior=behavior(down=rules(pods(1), stabilization_seconds=60))),
        observation(0, replicas=2),
        2,
        Reason.AT_MINIMUM,
        id="at the minimum there is no way down to be held or limited",
    ),
    pytest.param(
        policy(behavior=behavior(up=rules(pods(1), stabilization_seconds=60))),
        observation(9000, replicas=10),
        10,
        Reason.AT_MAXIMUM,
        id="at the maximum there is no way up either",
    ),
    pytest.param(policy(), observation(390), 4, Reason.DEMAND_MET, id="a demand that is met keeps them"),
    # unknown
    pytest.param(
        policy(), observation(UNKNOWN, UNKNOWN), 4, Reason.DEMAND_UNKNOWN, id="nothing known keeps them"
    ),
    pytest.param(
        policy(), observation(AT_LEAST_300, 0), 4, Reason.DEMAND_UNKNOWN, id="a lower bound never lowers them"
    ),
    pytest.param(
        policy(), observation(Count(900, None)), 9, Reason.DEMAND_ROSE, id="a lower bound may raise them"
    ),  # 900 / 100
    pytest.param(
        policy(),
        observation(Count(100, 300)),
        3,
        Reason.DEMAND_FELL,
        id="between two bounds the upper one says how few are enough",
    ),  # 300 / 100
    pytest.param(
        policy(),
        observation(Count(0, 4000)),
        4,
        Reason.DEMAND_MET,
        id="bounds on both sides of them keep them",
    ),
    pytest.param(
        policy(min_replicas=0),
        observation(UNKNOWN, UNKNOWN, replicas=0),
        0,
        Reason.DEMAND_UNKNOWN,
        id="an outage does not wake a pool",
    ),
    pytest.param(
        policy(min_replicas=5),
        observation(UNKNOWN),
        5,
        Reason.AT_MINIMUM,
        id="bounds hold in an outage too",
    ),
    pytest.param(
        policy(max_replicas=3),
        observation(UNKNOWN),
        3,
        Reason.AT_MAXIMUM,
        id="a lowered maximum holds in an outage",
    ),
    # somebody else decides
    pytest.param(
        policy(paused=True), observation(9000), 4, Reason.PAUSED, id="a paused pool keeps its replicas"
    ),
    pytest.param(
        policy(paused=True, max_replicas=3), observation(0), 4, Reason.PAUSED, id="even outside of its bounds"
    ),
    pytest.param(
        policy(),
        observation(9000, other_scaler="HorizontalPodAutoscaler/x"),
        4,
        Reason.OTHER_SCALER,
        id="another autoscaler's Deployment is left alone",
    ),
    pytest.param(
        policy(behavior=behavior(down=rules(stabilization_seconds=60))),
        observation(9000, foreign_write=ForeignWrite(manager="kubectl", at=AT - 59)),
        4,
        Reason.CHANGED_ELSEWHERE,
        id="a person's change stays for the calm",
    ),
    pytest.param(
        policy(behavior=behavior(down=rules(stabilization_seconds=60))),
        observation(900, foreign_write=ForeignWrite(manager="kubectl", at=AT - 60)),
        9,
        Reason.DEMAND_ROSE,
        id="and no longer",
    ),  # 900 / 100
    # step limits
    pytest.param(
        policy(behavior=behavior(up=rules(pods(2)))),
        observation(900),
        6,
        Reason.STEP_LIMITED,
        id="two pods a minute",
    ),  # 4 + 2
    pytest.param(
        policy(behavior=behavior(up=rules(percent(100)))),
        observation(900),
        8,
        Reason.STEP_LIMITED,
        id="at most double a minute",
    ),  # 4 * 2
    pytest.param(
        policy(behavior=behavior(up=rules(pods(1), percent(100)))),
        observation(900),
        8,
        Reason.STEP_LIMITED,
        id="of two limits the wider one by default",
    ),  # max(4 + 1, 4 * 2)
    pytest.param(
        policy(behavior=behavior(up=rules(pods(1), percent(100), select_policy=SelectPolicy.MIN))),
        observation(900),
        5,
        Reason.STEP_LIMITED,
        id="or the narrower one where that is asked for",
    ),  # min(4 + 1, 4 * 2)
    pytest.param(
        policy(behavior=behavior(up=rules(select_policy=SelectPolicy.DISABLED))),
        observation(900),
        4,
        Reason.STEP_LIMITED,
        id="a direction that is switched off",
    ),
    pytest.param(
        policy(behavior=behavior(down=rules(pods(1)))),
        observation(0),
        3,
        Reason.STEP_LIMITED,
        id="one fewer a minute",
    ),  # 4 - 1
    pytest.param(
        policy(behavior=behavior(down=rules(percent(50)))),
        observation(0, replicas=5),
        2,
        Reason.STEP_LIMITED,
        id="half of five is rounded down on the way down",
    ),  # floor(5 * 0.5)
    pytest.param(
        policy(behavior=behavior(up=rules(percent(10)))),
        observation(900),
        5,
        Reason.STEP_LIMITED,
        id="a share of few is rounded up on the way up",
    ),  # ceil(4 * 1.1)
]


@pytest.mark.parametrize(("given", "seen", "replicas", "reason"), ROWS)
def test_replicas_and_reason(given: Policy, seen: Observation, replicas: int, reason: Reason) -> None:
    """Each row is one sentence of the recipe, with a memory that remembers nothing."""
    decision, _ = decide(given, seen, Memory())

    assert (decision.desired_replicas, decision.reason) == (replicas, reason)


def test_decision_says_why_with_the_numbers() -> None:
    """The sentence alone lets a reader check the arithmetic."""
    decision, _ = decide(policy(), observation(4000, 1000), Memory())

    assert decision == Decision(
        desired_replicas=10,
        reason=Reason.AT_MAXIMUM,
        message=(
            "demand 5000 (4000 queued + 1000 unacked) at 100 a worker asks for 50 of now 4; maxReplicas is 10"
        ),
        limited=True,
    )


def test_unknown_demand_is_told_as_a_bound() -> None:
    """A sentence never shows a 0 that was not read."""
    decision, _ = decide(policy(), observation(Count(250, None), UNKNOWN), Memory())

    assert decision.message == (
        "demand at least 250 (at least 250 queued + at least 0 unacked) at 100 a worker asks for 4 of now 4"
    )


def test_steps_made_within_the_period_count_against_the_limit() -> None:
    """Four more a minute means four in any minute, not four a tick."""
    limited = policy(behavior=behavior(up=rules(pods(4))), max_replicas=100)
    memory = Memory(scale_events=(ScaleEvent(AT - 61, 40), ScaleEvent(AT - 30, 3)))

    decision, later = decide(limited, observation(9000, replicas=7), memory)

    assert decision.desired_replicas == 8  # 7 - 3 + 4
    assert later.scale_events == (ScaleEvent(AT - 30, 3), ScaleEvent(AT, 1, 8))


def test_events_are_kept_only_for_limits_that_need_them() -> None:
    """Without step limits there is nothing to remember, so the status stays small."""
    _, memory = decide(policy(), observation(900), Memory())

    assert memory.scale_events == ()


@pytest.mark.parametrize(
    ("earlier", "demand", "calm_since"),
    [
        pytest.param(None, 100, AT, id="calm begins when fewer would do"),
        pytest.param(AT - 30, 100, AT - 30, id="and keeps its begin"),
        pytest.param(AT - 30, 400, None, id="until the demand is back"),
        pytest.param(None, UNKNOWN, None, id="an outage is not calm"),
    ],
)
def test_calm_is_dated(earlier: float | None, demand: int | Count, calm_since: float | None) -> None:
    """`calmSince` tells since when fewer replicas would do."""
    _, memory = decide(policy(), observation(demand), Memory(calm_since=earlier))

    assert memory.calm_since == calm_since


def test_scale_up_can_wait_for_a_demand_that_stays() -> None:
    """With a window on the way up the lowest wish in it counts."""
    patient = policy(behavior=behavior(up=ScalingRules(stabilization_seconds=30)))
    _, memory = decide(patient, observation(400, at=AT - 10), Memory())

    decision, _ = decide(patient, observation(900), memory)

    assert (decision.desired_replicas, decision.reason) == (4, Reason.SCALE_UP_HELD)


@pytest.mark.parametrize(
    ("left", "right", "total", "text"),
    [
        pytest.param(Count(1, 2), Count(3, 4), Count(4, 6), "4 to 6", id="bounds add up"),
        pytest.param(Count(1, 1), UNKNOWN, Count(1, None), "at least 1", id="the unknown has no upper bound"),
        pytest.param(Count.exactly(2), Count.exactly(0), Count.exactly(2), "2", id="what is exact stays so"),
    ],
)
def test_counts_add_with_their_certainty(left: Count, right: Count, total: Count, text: str) -> None:
    """A sum is as certain as its least certain part."""
    assert left + right == total
    assert str(total) == text
