"""What one read of the broker found, and how much of it belongs to the queues of a pool.

It owns the arithmetic of certainty: each message counts once where its queue is known, and widens the
bounds of every pool that it may belong to where it is not. It refuses to make a number of a failed read.

`scaler.broker` fills a `Backlog`; `scaler.pool` asks it for the counts that `scaler.decision` takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from scaler.contract import Ready
from scaler.decision import UNKNOWN, Count


class BrokerFailure(Exception):  # noqa: N818  # a fact about the broker, which may be partial
    """Why the broker, or one of its keys, could not be read: a reason of Ready and a plain sentence."""

    def __init__(self, reason: Ready, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Unacked:
    """Messages that are delivered and not acknowledged, of all queues of the database."""

    by_queue: Mapping[str, int] = field(default_factory=dict)
    """Messages that went to this queue and no other."""
    by_queues: Mapping[frozenset[str], int] = field(default_factory=dict)
    """Messages that went to several queues: delivered from at least one of them, at most from each."""
    anywhere: int = 0
    """Messages whose queue cannot be told."""
    complete: bool = True
    """Whether every message was looked at; if not, the counts are lower bounds."""

    def of(self, queues: Collection[str]) -> Count:
        low = high = sum(self.by_queue.get(queue, 0) for queue in queues)
        high += self.anywhere * len(queues)
        for candidates, messages in self.by_queues.items():
            ours = sum(queue in candidates for queue in queues)
            high += ours * messages
            if ours == len(candidates):
                low += messages
        return Count(low, high if self.complete else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """One read of the broker, for the queues that were asked for."""

    lengths: Mapping[str, Count]
    """Messages in a queue's lists, all priorities together."""
    unacked: Unacked | None
    """None where the hash could not be read."""
    failures: Mapping[str, BrokerFailure] = field(default_factory=dict)
    """Why a queue's length is not wholly known."""
    unacked_failure: BrokerFailure | None = None

    def queued(self, queues: Collection[str]) -> Count:
        total = Count.exactly(0)
        for queue in queues:
            total += self.lengths.get(queue, UNKNOWN)
        return total

    def delivered(self, queues: Collection[str]) -> Count:
        return UNKNOWN if self.unacked is None else self.unacked.of(queues)

    def failure(self, queues: Collection[str]) -> BrokerFailure | None:
        """The first thing that keeps the demand of these queues from being known."""
        for queue in queues:
            if queue in self.failures:
                return self.failures[queue]
        return self.unacked_failure
