"""When a message of Celery's native delayed delivery may be due, and whose it is."""

from __future__ import annotations

import pytest

from scaler.broker.backlog import Backlog, Delayed, Unacked
from scaler.broker.delayed_delivery import LEVELS, Level
from scaler.broker.rabbitmq_queues import STALE_SECONDS
from scaler.pool.count import UNKNOWN, Count
from tests.scaler.samples import AT

POLL = 2.0


def test_levels_are_those_of_kombu() -> None:
    """The names and times of kombu/transport/native_delayed_delivery.py."""
    assert (len(LEVELS), LEVELS["celery_delayed_0"], LEVELS["celery_delayed_27"]) == (28, 1, 2**27)


def test_message_is_due_when_its_level_ends_at_the_earliest() -> None:
    """It may have come any time since the table before the last read: 6 s for the table, 2 s for the poll."""
    level = Level(64)
    level.note(0, AT, None)
    level.note(1, AT + POLL, AT)

    assert level.next_due(AT + POLL) == AT - STALE_SECONDS + 64
    assert level.next_due(AT + 70) == AT + 70


def test_oldest_counts_until_it_has_left() -> None:
    level = Level(64)
    level.note(1, AT, AT - POLL)
    level.note(3, AT + 30, AT + 28)
    assert level.next_due(AT + 30) == AT - POLL - STALE_SECONDS + 64

    level.note(2, AT + 64, AT + 62)
    assert level.next_due(AT + 64) == AT + 28 - STALE_SECONDS + 64
    level.note(0, AT + 94, AT + 92)
    assert level.next_due(AT + 94) is None


@pytest.mark.parametrize(
    ("seconds", "due"),
    [
        pytest.param(16, AT, id="a low level is due soon in any case"),
        pytest.param(64, None, id="of a high one nothing is known"),
    ],
)
def test_message_that_was_there_before_us_is_of_unknown_age(seconds: int, due: float | None) -> None:
    level = Level(seconds)
    level.note(1, AT, None)

    assert level.next_due(AT) == due


def test_as_many_that_came_as_left_are_of_unknown_age() -> None:
    """The number stays, and whoever was first must be gone."""
    level = Level(64)
    level.note(1, AT, AT - POLL)
    level.note(1, AT + 64 + STALE_SECONDS + 1, AT + 64)

    assert level.next_due(AT + 72) is None


def test_empty_level_is_certain_once_it_is_old() -> None:
    level = Level(64)
    level.note(0, AT, None)

    assert not level.certain(AT)
    assert level.certain(AT + STALE_SECONDS)
    level.note(1, AT + 10, AT)
    assert level.certain(AT + 10)


@pytest.mark.parametrize(
    ("delayed", "count"),
    [
        pytest.param(Delayed(), Count(0, 0), id="nothing is delayed"),
        pytest.param(
            Delayed(messages=Count(3, 3), queues=frozenset({"sums"})),
            Count(3, 3),
            id="all of them here",
        ),
        pytest.param(
            Delayed(messages=Count(3, 3), queues=frozenset({"sums", "mails"})), Count(0, 3), id="or elsewhere"
        ),
        pytest.param(Delayed(messages=Count(3, 3), queues=frozenset({"mails"})), Count(0, 0), id="not here"),
        pytest.param(Delayed(messages=Count(3, 3), queues=None), Count(0, 3), id="wherever"),
        pytest.param(Delayed(messages=UNKNOWN, queues=None), UNKNOWN, id="it is not known how many"),
    ],
)
def test_delayed_messages_are_queued_and_not_due(delayed: Delayed, count: Count) -> None:
    """Where they can go tells whose they are."""
    backlog = Backlog(lengths={"sums": Count(5, 5)}, unacked=Unacked(), delayed=delayed)

    assert backlog.queued(["sums"]) == Count(5, 5) + count
    assert backlog.queued_due(["sums"]) == Count(5, 5)
    assert backlog.not_due(["sums"]) == count


def test_only_a_message_that_is_certainly_its_own_wakes_a_pool() -> None:
    """One that may be anybody's would wake them all."""
    backlog = Backlog(
        lengths={},
        unacked=Unacked(),
        delayed=Delayed(messages=Count(1, 1), queues=frozenset({"sums", "mails"}), next_due=AT),
    )

    assert backlog.next_due_at(["sums"]) is None
    assert backlog.next_due_at(["sums", "mails"]) == AT
