"""What is due of the messages that workers hold, where the broker only counts them."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.broker.backlog import Backlog, Delayed, Delivery, Unacked
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Reason
from scaler.pool.ready import ready_of
from scaler.pool.sight import DECLARE_SECONDS, Sight
from scaler.workers.answers import Answers, HeldTasks
from tests.scaler.fakes import FakeCluster
from tests.scaler.samples import AT, policy
from tests.scaler.team import answers, deployment, held, pod

POLICY = policy()


def backlog(most: int | None, ready: int = 0, **facts: Any) -> Backlog:
    """As RabbitMQ tells it: workers hold at most so many."""
    plain: dict[str, Any] = {
        "at": AT,
        "lengths": {"sums": Count.exactly(ready)},
        "unacked": Unacked(at_most={"sums": most}),
        "unacked_later": Unacked(at_most={"sums": most}),
        "counts_only": True,
        "told": {} if most is None else {"sums": most},
    }
    return Backlog(**plain | facts)


def sight(found: Backlog, said: Answers | None = None, **facts: Any) -> Sight:
    plain: dict[str, Any] = {
        "at": AT,
        "read_at": AT,
        "deployment": deployment(2),
        "other_scaler": None,
        "backlog": found,
        "trouble": None,
        "answers": said or Answers(),
    }
    return Sight(**plain | facts)


def later(many: int, next_due: float = AT + 600, **tasks: Any) -> HeldTasks:
    plain: dict[str, Any] = {"running": frozenset(), "acknowledged": frozenset(), "reserved": frozenset()}
    return HeldTasks(**plain | tasks, scheduled=many, next_due=next_due)


@pytest.mark.parametrize(
    ("unacked", "said", "due", "not_due"),
    [
        pytest.param(0, None, Count(0, 0), Count(0, 0), id="none is held"),
        pytest.param(5, None, Count(0, 5), Count(0, 5), id="nobody was asked"),
        pytest.param(None, None, UNKNOWN, UNKNOWN, id="nothing bounds it"),
        pytest.param(
            5, answers(a=held("r", reserved="wxyz")), Count(5, 5), Count(0, 0), id="the worker speaks of all"
        ),
        pytest.param(
            5,
            answers(a=held("r", acknowledged="r", reserved="vwxyz")),
            Count(5, 5),
            Count(0, 0),
            id="one that runs is acknowledged, and in no broker",
        ),
        pytest.param(5, answers(a=later(5)), Count(0, 0), Count(5, 5), id="all of it is for later"),
        pytest.param(
            5, answers(a=later(3), b=held("r")), Count(1, 2), Count(3, 4), id="of one nobody speaks"
        ),
        pytest.param(
            5, answers(a=later(5, next_due=AT)), Count(1, 5), Count(0, 4), id="some of it is due by now"
        ),
        pytest.param(
            1, answers(a=held("r", reserved="x")), Count(2, 2), Count(0, 0), id="one came between the two"
        ),
        pytest.param(
            0, answers(a=held("r")), Count(1, 1), Count(0, 0), id="a table that is old does not show it yet"
        ),
        pytest.param(None, answers(a=held("r")), Count(1, None), UNKNOWN, id="more may be held elsewhere"),
    ],
)
def test_workers_tell_what_is_due_of_what_they_hold(
    unacked: int | None, said: Answers | None, due: Count, not_due: Count
) -> None:
    seen = sight(backlog(unacked), said)

    assert (seen.unacked_due(POLICY), seen.not_due(POLICY)) == (due, not_due)


def test_next_due_is_the_earliest_of_workers_and_delayed_delivery() -> None:
    delayed = Delayed(messages=Count(1, 1), queues=frozenset({"sums"}), next_due=AT + 900)
    found = backlog(2, delayed=delayed)

    assert sight(found).next_due(POLICY) == AT + 900
    assert sight(found, answers(a=later(2, AT + 600))).next_due(POLICY) == AT + 600


def test_last_worker_keeps_what_the_queue_would_show_as_due() -> None:
    """RabbitMQ shows no ETA: given back, a task for later would wake the pool that just let it go."""
    assert sight(backlog(2), answers(a=later(2))).held_for_later(POLICY)
    assert not sight(backlog(2), answers(a=held("r"))).held_for_later(POLICY)
    assert not sight(backlog(0, counts_only=False), answers(a=later(2))).held_for_later(POLICY)


@pytest.mark.parametrize(
    ("found", "said", "all_spoken_of"),
    [
        pytest.param(backlog(2), answers(a=held("r", reserved="x")), True, id="as many as they speak of"),
        pytest.param(backlog(3), answers(a=held("r"), b=later(2)), True, id="some of them for later"),
        pytest.param(backlog(3), answers(a=held("r", reserved="x")), False, id="one is out of sight"),
        pytest.param(
            backlog(2), answers(a=held("r", acknowledged="r")), False, id="acknowledged is not held"
        ),
        pytest.param(backlog(None), answers(a=held("r")), False, id="nothing bounds what is held"),
        pytest.param(backlog(0, unacked=None), answers(a=held()), False, id="it is not known what is held"),
        pytest.param(
            backlog(0, counts_only=False, deliveries=[Delivery(frozenset({"sums"}), "r", None)]),
            answers(a=held("r")),
            True,
            id="where a broker shows ids, each has its worker",
        ),
        pytest.param(
            backlog(0, counts_only=False, deliveries=[Delivery(frozenset({"sums"}), "t", None)]),
            answers(a=held("r")),
            False,
            id="and the count alone does not do",
        ),
    ],
)
def test_eviction_waits_while_somebody_may_hold_a_task(
    found: Backlog, said: Answers, all_spoken_of: bool
) -> None:
    assert sight(found, said).all_spoken_of(POLICY) is all_spoken_of


def test_nothing_is_stranded_where_messages_come_back_at_once() -> None:
    assert sight(backlog(5)).stranded(POLICY) == 0
    assert sight(backlog(5, unacked=None)).stranded(POLICY) is None


@pytest.mark.parametrize(
    ("facts", "ready", "words"),
    [
        pytest.param({}, Ready.WATCHING, "follows the queue sums", id="all is well"),
        pytest.param(
            {"missing": frozenset({"sums"})},
            Ready.WATCHING,
            "has declared the queue sums yet",
            id="no worker yet",
        ),
        pytest.param(
            {"missing": frozenset({"sums"}), "pods": [pod("a", running_since=AT - DECLARE_SECONDS)]},
            Ready.WATCHING,
            "has declared the queue sums yet",
            id="a worker that boots",
        ),
        pytest.param(
            {"missing": frozenset({"sums"}), "pods": [pod("a", terminating=True)]},
            Ready.WATCHING,
            "has declared the queue sums yet",
            id="a worker that goes",
        ),
        pytest.param(
            {"missing": frozenset({"sums"}), "pods": [pod("a")]},
            Ready.QUEUE_NOT_FOUND,
            "the broker has no queue sums",
            id="a worker that has run for an hour",
        ),
        pytest.param(
            {"remark": "workers are added and none removed"},
            Ready.WATCHING,
            "none removed",
            id="a standing gap",
        ),
    ],
)
def test_missing_queue_is_wrong_only_where_workers_should_have_made_it(
    facts: dict[str, Any], ready: Ready, words: str
) -> None:
    """Workers and producers declare queues; until one of them comes there is nothing to be wrong."""
    pods = facts.pop("pods", [])
    celery = FakeCluster().add()

    found, sentence = ready_of(celery, POLICY, sight(backlog(0, **facts), pods=pods), Reason.DEMAND_MET)

    assert (found, words in sentence) == (ready, True), sentence
