"""The state word: which one wins, and that a stored status and a report say the same."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, Memory, Reason
from scaler.pool.drain import Leaving, Plan
from scaler.pool.state import State, state_in, state_of
from scaler.pool.status import Report, document
from tests.scaler.samples import AT

LEAVING = Plan(leaving=(Leaving("sums-1", AT),))


def report(reason: Reason | None, demand: Count, *, limited: bool = False, **changes: Any) -> Report:
    decided = (
        None if reason is None else Decision(desired_replicas=4, reason=reason, message="", limited=limited)
    )
    return Report(
        generation=1,
        ready=Ready.WATCHING,
        ready_message="",
        replicas=4,
        queued=demand,
        unacked=Count.exactly(0),
        decision=decided,
        memory=Memory(),
        demand=demand,
        **changes,
    )


SOME, NONE = Count.exactly(7), Count.exactly(0)

ROWS = [
    pytest.param(report(Reason.DEMAND_MET, SOME), State.ACTIVE, id="there is something to do"),
    pytest.param(report(Reason.DEMAND_MET, NONE), State.IDLE, id="there is certainly nothing to do"),
    pytest.param(
        report(Reason.DEMAND_MET, Count(0, 4)), State.ACTIVE, id="what may be running is not nothing"
    ),
    pytest.param(report(Reason.AT_MINIMUM, NONE), State.IDLE, id="the minimum limits no demand"),
    pytest.param(report(Reason.AT_MAXIMUM, SOME, limited=True), State.LIMITED, id="the demand asks for more"),
    pytest.param(report(Reason.SCALE_DOWN_HELD, NONE), State.IDLE, id="a calm that is waited for is no hold"),
    pytest.param(
        report(Reason.AT_MINIMUM, SOME, drain=LEAVING), State.DRAINING, id="somebody leaves while others work"
    ),
    pytest.param(
        report(Reason.STEP_LIMITED, SOME, limited=True, drain=LEAVING),
        State.DRAINING,
        id="who leaves is shown before what limits",
    ),
    pytest.param(
        report(Reason.DEMAND_UNKNOWN, UNKNOWN, drain=LEAVING),
        State.HOLD,
        id="a drain that waits for a broker is a hold",
    ),
    pytest.param(report(Reason.OTHER_SCALER, SOME), State.HOLD, id="somebody else scales it"),
    pytest.param(report(Reason.CHANGED_ELSEWHERE, NONE), State.HOLD, id="somebody else has set it"),
    pytest.param(report(None, UNKNOWN), State.HOLD, id="without a Deployment nothing is decided"),
    pytest.param(report(Reason.PAUSED, SOME, drain=LEAVING), State.PAUSED, id="paused is paused"),
]


@pytest.mark.parametrize(("said", "word"), ROWS)
def test_word_of_a_report_and_of_what_is_stored_of_it(said: Report, word: State) -> None:
    assert (state_of(said), state_in(document(said, {}, AT))) == (word, word)


def test_every_word_is_reached() -> None:
    assert {row.values[1] for row in ROWS} == set(State)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param({}, id="no scaler has looked at it yet"),
        pytest.param({"decision": "later", "conditions": [7]}, id="garbage"),
    ],
)
def test_what_nobody_decided_about_is_on_hold(stored: dict[str, Any]) -> None:
    assert state_in(stored) is State.HOLD
