"""How much of a read belongs to a pool, and how certain that is."""

from __future__ import annotations

import pytest

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count


@pytest.mark.parametrize(
    ("unacked", "queues", "expected"),
    [
        pytest.param(Unacked(by_queue={"a": 3, "b": 4}), ("a",), Count(3, 3), id="each message at its queue"),
        pytest.param(Unacked(by_queue={"a": 3, "b": 4}), ("a", "b"), Count(7, 7), id="over all queues"),
        pytest.param(Unacked(), ("a",), Count(0, 0), id="a zero that was read"),
        pytest.param(
            Unacked(by_queues={frozenset({"a", "b"}): 5}),
            ("a",),
            Count(0, 5),
            id="a message of two pools is at most one each",
        ),
        pytest.param(
            Unacked(by_queues={frozenset({"a", "b"}): 5}),
            ("a", "b", "c"),
            Count(5, 10),
            id="a message of two queues of one pool is one copy or two under one tag",
        ),
        pytest.param(
            Unacked(anywhere=2), ("a",), Count(0, 2), id="a message of an unknown queue may be ours"
        ),
        pytest.param(
            Unacked(by_queue={"a": 3}, complete=False), ("a",), Count(3, None), id="not all were seen"
        ),
    ],
)
def test_unacked_of_a_pool(unacked: Unacked, queues: tuple[str, ...], expected: Count) -> None:
    """Certain messages count once; uncertain ones widen the bounds."""
    assert unacked.of(queues) == expected


def test_queue_that_was_not_read_leaves_a_lower_bound() -> None:
    """One unknown queue makes the sum a lower bound, not a guess."""
    backlog = Backlog(lengths={"a": Count.exactly(7), "b": UNKNOWN}, unacked=None)

    assert backlog.queued(("a",)) == Count(7, 7)
    assert backlog.queued(("a", "b")) == Count(7, None)
    assert backlog.queued(("a", "c")) == Count(7, None)
    assert backlog.delivered(("a",)) == UNKNOWN


def test_failure_of_one_queue_is_told_to_its_pool_only() -> None:
    """A wrong key of one pool says nothing about another."""
    failure = BrokerFailure(Ready.BROKER_UNREADABLE, "b is no list")
    backlog = Backlog(lengths={}, unacked=Unacked(), failures={"b": failure})

    assert backlog.failure(("a", "b")) is failure
    assert backlog.failure(("a",)) is None
