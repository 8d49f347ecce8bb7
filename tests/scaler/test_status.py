"""The status document: what is written, when it is urgent, and what a new scaler reads back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, Memory, Reason
from scaler.pool.drain import DrainReason, Leaving, Plan
from scaler.pool.status import (
    FIELDS,
    Report,
    agreed,
    document,
    last_scale_of,
    memory_of,
    news_of,
    settle,
    urgent,
)
from scaler.pool.step_limits import ScaleEvent
from tests.scaler.samples import AT

NEW_YEAR = "2024-01-01T00:00:00.000000Z"


def report(**changes: Any) -> Report:
    plain = Report(
        generation=3,
        ready=Ready.WATCHING,
        ready_message="sums-celery-worker follows the queue sums",
        replicas=4,
        queued=Count.exactly(390),
        unacked=Count.exactly(0),
        decision=Decision(desired_replicas=4, reason=Reason.DEMAND_MET, message="demand 390"),
        memory=Memory(),
    )
    changed = replace(plain, **changes)
    return replace(changed, demand=changed.queued + changed.unacked)


def condition(kind: str, status: str, reason: str, message: str, since: str = NEW_YEAR) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 3,
        "lastTransitionTime": since,
    }


def test_document_holds_all_that_is_known() -> None:
    """The whole document of a pool that is well, with what the scaler remembers."""
    remembered = Memory(scale_events=(ScaleEvent(AT - 30.25, 2),), calm_since=AT - 8)

    assert document(report(memory=remembered, last_scale_at=AT - 30.25), {}, AT) == {
        "observedGeneration": 3,
        "replicas": 4,
        "desiredReplicas": 4,
        "queued": 390,
        "unacked": 0,
        "calmSince": "2023-12-31T23:59:52.000000Z",
        "scaleEvents": [{"at": "2023-12-31T23:59:29.750000Z", "change": 2}],
        "lastScaleTime": "2023-12-31T23:59:29.750000Z",
        "decision": {"reason": "DemandMet", "message": "demand 390"},
        "conditions": [
            condition("Ready", "True", "Watching", "sums-celery-worker follows the queue sums"),
            condition("Active", "True", "DemandPresent", "demand 390"),
            condition("ScalingActive", "True", "Scaling", "the scaler sets the replicas"),
            condition(
                "ScalingLimited",
                "False",
                "WithinLimits",
                "the demand asks for nothing that the limits forbid",
            ),
            condition("Draining", "False", "NotDraining", "no worker is leaving"),
        ],
    }


def test_unknown_is_absent_and_never_zero() -> None:
    """Law 1: a figure that is not exact is not there, and Active is Unknown rather than False."""
    written = document(
        report(replicas=None, queued=Count(0, 7), unacked=UNKNOWN, decision=None, ready=Ready.BROKER_REFUSED),
        {},
        AT,
    )

    assert set(written) == {"observedGeneration", "conditions"}
    assert [(item["type"], item["status"]) for item in written["conditions"]] == [
        ("Ready", "False"),
        ("Active", "Unknown"),
        ("ScalingActive", "Unknown"),
        ("ScalingLimited", "Unknown"),
        ("Draining", "False"),
    ]


def test_demand_known_in_part_is_active() -> None:
    """One message that is certain is demand, whatever else is not known."""
    written = document(report(queued=Count(1, None)), {}, AT)

    assert (written["conditions"][1]["status"], written["conditions"][1]["message"]) == (
        "True",
        "demand at least 1",
    )


def test_no_demand_is_told_only_of_a_zero_that_was_read() -> None:
    """False is said of a demand that is exactly 0."""
    written = document(report(queued=Count(0, 0)), {}, AT)

    assert (written["conditions"][1]["status"], written["conditions"][1]["reason"]) == ("False", "NoDemand")


def test_limited_decision_is_told_with_its_reason() -> None:
    """ScalingLimited carries the decision's own reason and words."""
    limited = Decision(
        desired_replicas=10, reason=Reason.AT_MAXIMUM, message="maxReplicas is 10", limited=True
    )
    written = document(report(decision=limited), {}, AT)

    assert written["conditions"][3] == condition("ScalingLimited", "True", "AtMaximum", "maxReplicas is 10")


def test_transition_time_moves_with_the_status_only() -> None:
    """A new reason or message keeps the time; a new status takes the present one."""
    first = document(report(), {}, AT)
    other_words = document(report(ready_message="other words"), first, AT + 10)
    turned = document(report(ready=Ready.BROKER_UNREACHABLE), other_words, AT + 20)

    assert [doc["conditions"][0]["lastTransitionTime"] for doc in (first, other_words, turned)] == [
        NEW_YEAR,
        NEW_YEAR,
        "2024-01-01T00:00:20.000000Z",
    ]


URGENT = [
    pytest.param({"generation": 4}, id="a new generation"),
    pytest.param({"replicas": 5}, id="another number of pods"),
    pytest.param({"ready": Ready.BROKER_UNREACHABLE}, id="not ready any more"),
    pytest.param(
        {"decision": Decision(desired_replicas=5, reason=Reason.DEMAND_MET, message="")}, id="a new desire"
    ),
    pytest.param(
        {"decision": Decision(desired_replicas=4, reason=Reason.SCALE_DOWN_HELD, message="")},
        id="a new reason",
    ),
    pytest.param({"queued": Count(0, 0)}, id="no demand any more"),
    pytest.param({"decision": None}, id="no decision any more"),
]


@pytest.mark.parametrize("changes", URGENT)
def test_what_a_person_waits_for_is_urgent(changes: dict[str, Any]) -> None:
    """Replicas, reasons, conditions and generations are written in the tick that finds them."""
    earlier = document(report(), {}, AT)

    assert urgent(earlier, document(report(**changes), earlier, AT + 2))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"queued": Count.exactly(391)}, id="a figure"),
        pytest.param({"ready_message": "other words"}, id="a sentence"),
        pytest.param({"memory": Memory(calm_since=AT)}, id="the calm"),
        pytest.param(
            {"decision": Decision(desired_replicas=4, reason=Reason.WITHIN_TOLERANCE, message="")},
            id="a reason that flickers at a steady load",
        ),
    ],
)
def test_figures_are_not_urgent(changes: dict[str, Any]) -> None:
    """What moves each tick waits for the next refresh, but does change the document."""
    earlier = document(report(), {}, AT)
    later = document(report(**changes), earlier, AT + 2)

    assert not urgent(earlier, later)
    assert later != earlier


def test_a_drain_that_goes_on_is_not_urgent_and_one_that_waits_for_others_is() -> None:
    """Who leaves is on the status since the choice; that he has finished costs no write of its own."""
    victim = (Leaving("sums-1", AT),)
    waiting = report(drain=Plan(leaving=victim, reason=DrainReason.WAITING_FOR_TASKS, message="1 left"))
    finished = replace(waiting, drain=Plan(leaving=victim, reason=DrainReason.REMOVING, message="none left"))
    held = replace(waiting, drain=Plan(leaving=victim, reason=DrainReason.WAITING_FOR_PODS, message="sums-2"))
    earlier = document(waiting, document(report(), {}, AT), AT)

    assert urgent(document(report(), {}, AT), earlier)
    assert not urgent(earlier, document(finished, earlier, AT + 2))
    assert urgent(earlier, document(held, earlier, AT + 2))


def test_unknown_figure_leaves_and_a_foreign_field_stays() -> None:
    """What became unknown is gone from the document; what is not the scaler's is kept."""
    earlier = {**document(report(), {}, AT), "worries": ["none"]}
    later = document(report(queued=UNKNOWN), earlier, AT + 2)

    assert "queued" not in later
    assert later["worries"] == ["none"]


def test_same_again_is_the_same_document() -> None:
    """Where nothing changed there is nothing to write."""
    earlier = document(report(), {}, AT)

    assert document(report(), earlier, AT + 100) == earlier


times = st.floats(AT - 10**6, AT + 10**6).map(lambda at: round(at, 6))
memories = st.builds(
    Memory,
    scale_events=st.lists(st.builds(ScaleEvent, times, st.integers(-1000, 1000)), max_size=5).map(tuple),
    calm_since=st.none() | times,
)


@given(memories)
def test_memory_survives_the_status(memory: Memory) -> None:
    """Law 5: what is stored is read back, to the microsecond."""
    read = memory_of(document(report(memory=memory), {}, AT))

    assert [event.change for event in read.scale_events] == [event.change for event in memory.scale_events]
    for there, back in zip(memory.scale_events, read.scale_events, strict=True):
        assert back.at == pytest.approx(there.at, abs=2e-6)
    assert (read.calm_since is None) == (memory.calm_since is None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "worries"]), json_values, max_size=6))
def test_garbage_in_a_stored_status_is_ignored(stored: dict[str, Any]) -> None:
    """Whatever an older scaler or a person left there, a new document can be made and nothing fails."""
    memory = memory_of(stored)
    agreed(stored, 4)
    news_of(stored)
    settle(memory, stored, last_scale_of(stored), 4)

    later = document(report(memory=memory), stored, AT)

    assert later.get("worries") == stored.get("worries")
    assert isinstance(urgent(stored, later), bool)


STORED = {"desiredReplicas": 4, "scaleEvents": [{"at": NEW_YEAR, "change": 2}]}


@pytest.mark.parametrize(
    ("last_scale_at", "spec_replicas", "events", "settled_at"),
    [
        pytest.param(None, 2, 0, None, id="the replicas show that the step was not made"),
        pytest.param(None, 4, 1, AT, id="or that it was"),
        pytest.param(AT - 60, 2, 0, AT - 60, id="whenever the step before was"),
        pytest.param(AT, 2, 1, AT, id="a step known to be made stays, whoever undid it since"),
        pytest.param(None, 9, 1, AT, id="and so does one that somebody built upon"),
    ],
)
def test_step_is_settled_by_the_replicas(
    last_scale_at: float | None, spec_replicas: int, events: int, settled_at: float | None
) -> None:
    """A step from 2 to 4 was stored; whether it happened is seen by the replicas."""
    memory, at = settle(memory_of(STORED), STORED, last_scale_at, spec_replicas)

    assert (len(memory.scale_events), at) == (events, settled_at)


def test_news_survives_the_status() -> None:
    """What was announced by the scaler before is no news to the next."""
    assert news_of(document(report(), {}, AT)) == report().news
