"""What RabbitMQ's figures of a queue are worth, by how they were come by and how old they are."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.broker.rabbitmq_queues import STALE_SECONDS, Figures, Row, Watch, figures_of_classic
from scaler.pool.count import UNKNOWN, Count
from tests.scaler.samples import AT

OLD = AT + STALE_SECONDS


def row(ready: int = 0, unacked: int = 0, **facts: Any) -> Row:
    plain: dict[str, Any] = {
        "name": "sums",
        "type": "quorum",
        "state": "running",
        "leader": "rabbit@a",
        "online": ["rabbit@a", "rabbit@b"],
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    }
    return Row(**plain | facts)


def test_classic_queue_is_taken_at_its_word() -> None:
    """It counts as it is asked: 0 is 0 at once."""
    assert figures_of_classic(row(7, 3, type="classic")) == Figures(Count(7, 7), 3, 3)
    assert figures_of_classic(row(type="classic")) == Figures(Count(0, 0), 0, 0)


@pytest.mark.parametrize(
    ("table", "declared", "figures"),
    [
        pytest.param(row(5, 3), 5, Figures(Count(5, 5), 3, 3), id="nothing moved"),
        pytest.param(row(5, 3), 1, Figures(Count(1, 1), 7, 3), id="four that left may be held now"),
        pytest.param(row(5, 3), 9, Figures(Count(9, 9), 3, 3), id="four came"),
        pytest.param(row(5, 0), 0, Figures(Count(0, 0), 5, None), id="all of it was taken"),
        pytest.param(row(0, 0), 9, Figures(Count(9, 9), None, None), id="a flood younger than the table"),
        pytest.param(row(0, 0), 0, Figures(Count(0, 0), None, None), id="a 0 that was read once"),
    ],
)
def test_what_workers_hold_is_bounded_by_a_table_that_is_old(
    table: Row, declared: int, figures: Figures
) -> None:
    assert Watch().figures(table, declared, 1, AT) == figures


def test_zero_is_believed_once_it_is_older_than_the_table_may_be() -> None:
    watch = Watch()

    assert watch.figures(row(), 0, 1, AT).unacked is None
    assert watch.figures(row(), 0, 1, OLD - 0.1).unacked is None
    assert watch.figures(row(), 0, 1, OLD) == Figures(Count(0, 0), 0, 0)


@pytest.mark.parametrize(
    ("table", "declared"),
    [
        pytest.param(row(0, 1), 0, id="one was held"),
        pytest.param(row(1, 0), 0, id="one was taken since"),
        pytest.param(row(0, 0), 1, id="one came since"),
    ],
)
def test_zero_that_was_interrupted_grows_old_anew(table: Row, declared: int) -> None:
    watch = Watch()
    watch.figures(row(), 0, 1, AT)
    watch.figures(table, declared, 1, AT + 3)

    assert watch.figures(row(), 0, 1, OLD).unacked is None
    assert watch.figures(row(), 0, 1, OLD + STALE_SECONDS) == Figures(Count(0, 0), 0, 0)


def test_messages_that_nobody_takes_leave_what_is_held_at_zero() -> None:
    """As of a pool without workers: the table agrees with the declare, for long enough."""
    watch = Watch()
    watch.figures(row(5), 5, 0, AT)

    assert watch.figures(row(5), 5, 0, OLD) == Figures(Count(5, 5), 0, 0)


def test_passive_declare_without_a_leader_says_zero_and_is_not_believed() -> None:
    """RabbitMQ answers 0 messages and 0 consumers where the leader is silent for 250 ms."""
    assert Watch().figures(row(5, 3), 0, 0, AT).ready == Count(0, 5)


def test_user_who_may_not_ask_has_the_table_alone() -> None:
    """Its figures count, and its 0 only when it is old."""
    watch = Watch()

    assert watch.figures_of_table(row(5, 3), AT) == Figures(Count(5, 5), 3, 3)
    assert watch.figures_of_table(row(), AT) == Figures(UNKNOWN, None, None)
    assert watch.figures_of_table(row(), OLD) == Figures(Count(0, 0), 0, 0)


@pytest.mark.parametrize(
    ("facts", "counted"),
    [
        pytest.param({}, True, id="a leader that is there"),
        pytest.param({"type": "classic", "leader": None, "online": None}, True, id="a classic queue"),
        pytest.param({"state": "flow"}, True, id="a queue that slows its publishers down"),
        pytest.param({"state": "down"}, False, id="a node that is away"),
        pytest.param({"state": "minority"}, False, id="no majority"),
        pytest.param({"state": None}, False, id="no state"),
        pytest.param({"leader": "rabbit@c"}, False, id="a leader that is away"),
        pytest.param({"messages_ready": None}, False, id="no figure"),
        pytest.param({"messages_unacknowledged": -1}, False, id="an absurd figure"),
    ],
)
def test_queue_that_did_not_count_has_no_figures(facts: dict[str, Any], counted: bool) -> None:
    assert row(5, 3, **facts).counted is counted
