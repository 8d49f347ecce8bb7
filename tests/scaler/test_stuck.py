"""Who counts as stuck: certainly idle, with work due, for long."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.pool.crew import Rest
from scaler.pool.stuck import STUCK_SECONDS, stuck, suspects
from tests.scaler.samples import AT
from tests.scaler.team import answers, beat, heard, held, pod

LONG = AT - STUCK_SECONDS


def resting(since: float = LONG) -> Rest:
    return Rest(processed=5, last=AT, since=since, beats=100)


def suspected(**facts: Any) -> frozenset[str]:
    plain: dict[str, Any] = {
        "heard": heard(a=beat()),
        "rests": {"a": resting()},
        "leaving": (),
        "waiting_since": LONG,
        "any_heard": True,
        "at": AT,
    }
    return suspects([facts.pop("pod", pod("a"))], **plain | facts)


def test_worker_that_took_nothing_for_long_while_work_was_due_is_suspected() -> None:
    assert suspected() == {"a"}


def test_worker_never_heard_of_in_all_its_life_is_suspected() -> None:
    assert suspected(heard=heard(), rests={}) == {"a"}


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"waiting_since": None}, id="nothing is due"),
        pytest.param({"waiting_since": LONG + 1}, id="nothing was due until a moment ago"),
        pytest.param({"rests": {"a": resting(LONG + 1)}}, id="it took one not long ago"),
        pytest.param({"rests": {}}, id="it runs one"),
        pytest.param({"leaving": {"a"}}, id="it was told to take none"),
        pytest.param({"pod": pod("a", ready=False)}, id="it is not ready"),
        pytest.param({"pod": pod("a", terminating=True)}, id="it goes already"),
        pytest.param({"pod": pod("a", running_since=AT - 60), "rests": {}}, id="it is young"),
        pytest.param({"heard": heard(a=beat(at=AT - 60))}, id="it went silent: it may be running a task"),
        pytest.param({"heard": heard(AT - 60), "rests": {}}, id="we listen for a minute only"),
        pytest.param({"any_heard": False, "heard": heard(), "rests": {}}, id="nobody here sends heartbeats"),
    ],
)
def test_nobody_is_suspected_while(facts: dict[str, Any]) -> None:
    assert suspected(**facts) == frozenset()


def test_suspect_that_holds_nothing_is_stuck() -> None:
    """And so is one that does not even answer, once all that workers hold is accounted for."""
    assert stuck({"a"}, answers(a=held(), b=held("t")), all_spoken_of=True) == {"a"}
    assert stuck({"a"}, answers(b=held("t")), all_spoken_of=True) == {"a"}


@pytest.mark.parametrize(
    ("said", "all_spoken_of"),
    [
        pytest.param(answers(a=held()), False, id="somebody has a task out of sight, by a rate limit"),
        pytest.param(answers(a=held("t")), True, id="it runs one after all"),
        pytest.param(answers(a=held(reserved=["t"])), True, id="it has one waiting"),
        pytest.param(answers(), True, id="nobody was asked"),
    ],
)
def test_suspect_that_may_hold_a_task_is_kept(said: Any, all_spoken_of: bool) -> None:
    assert stuck({"a"}, said, all_spoken_of=all_spoken_of) == frozenset()
