"""What one read of the broker found, and how much of it belongs to the queues of a pool.

It owns the arithmetic of certainty: each message counts once where its queue is known, and widens the
bounds of every pool that it may belong to where it is not. It refuses to make a number of a failed read.
A message with an ETA in the future is *not due*, wherever it waits, and counted apart.

`scaler.broker.redis_broker` and `scaler.broker.rabbitmq_broker` fill a `Backlog`; `scaler.pool.sight` asks it
for the counts that `scaler.pool.decision` takes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from scaler.contract import Ready
from scaler.pool.count import NOTHING, UNKNOWN, Count


class BrokerFailure(Exception):  # noqa: N818  # a fact about the broker, which may be partial
    """Why the broker, or one of its keys, could not be read: a reason of Ready and a plain sentence."""

    def __init__(self, reason: Ready, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that some worker has taken and not acknowledged."""

    queues: frozenset[str]
    """Where it went to; empty where that cannot be told."""
    task: str
    eta: float | None

    def due(self, at: float) -> bool:
        return self.eta is None or self.eta <= at


@dataclass(frozen=True, slots=True, kw_only=True)
class Unacked:
    """How many messages are delivered and not acknowledged, of all queues of the database."""

    by_queue: Mapping[str, int] = field(default_factory=dict)
    """Messages that went to this queue and no other."""
    by_queues: Mapping[frozenset[str], int] = field(default_factory=dict)
    """Messages that went to several queues: delivered from at least one of them, at most from each."""
    anywhere: int = 0
    """Messages whose queue cannot be told."""
    complete: bool = True
    """Whether every message was looked at; if not, the counts are lower bounds."""
    at_most: Mapping[str, int | None] = field(default_factory=dict)
    """Messages of this queue of which the broker tells no more than that there may be so many; None where
    it does not tell that."""

    def of(self, queues: Collection[str]) -> Count:
        low = high = sum(self.by_queue.get(queue, 0) for queue in queues)
        high += self.anywhere * len(queues)
        bounds = [self.at_most.get(queue, 0) for queue in queues]
        high += sum(bound or 0 for bound in bounds)
        for candidates, messages in self.by_queues.items():
            ours = sum(queue in candidates for queue in queues)
            high += ours * messages
            if ours == len(candidates):
                low += messages
        return Count(low, high if self.complete and None not in bounds else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delayed:
    """Messages that wait outside of the queues until they are due, for whichever queue."""

    messages: Count = NOTHING
    queues: frozenset[str] | None = frozenset()
    """Where they can go to; None where that cannot be told."""
    next_due: float | None = None

    def of(self, queues: Collection[str]) -> Count:
        if self.messages == NOTHING or self._goes_elsewhere(queues):
            return NOTHING
        return self.messages if self.goes_to(queues) else Count(0, self.messages.high)

    def goes_to(self, queues: Collection[str]) -> bool:
        """Certainly to one of these."""
        return bool(self.queues) and self.queues is not None and self.queues <= set(queues)

    def _goes_elsewhere(self, queues: Collection[str]) -> bool:
        return bool(self.queues) and self.queues is not None and self.queues.isdisjoint(queues)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """One read of the broker, for the queues that were asked for."""

    at: float = 0.0
    """What is due was told by this time."""
    lengths: Mapping[str, Count]
    """Messages in a queue's lists, all priorities together, due or not."""
    later: Mapping[str, int] = field(default_factory=dict)
    """Of those, the ones that were seen not to be due."""
    unread: frozenset[str] = frozenset()
    """Queues of which some messages were not looked at; those count as due."""
    unacked: Unacked | None
    """The due ones; None where the hash could not be read."""
    unacked_later: Unacked = field(default_factory=Unacked)
    """Those that are not due."""
    next_due: Mapping[str, float] = field(default_factory=dict)
    """When the first message of a queue that is not due will be."""
    deliveries: Sequence[Delivery] = ()
    """What `unacked` counts, as far as it was looked at."""
    taken_at: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By queue, when its due unacknowledged messages were taken, the oldest of all queues' first."""
    failures: Mapping[str, BrokerFailure] = field(default_factory=dict)
    """Why a queue's length is not wholly known."""
    unacked_failure: BrokerFailure | None = None
    counts_only: bool = False
    """The broker tells how many messages workers hold and nothing of any: which of them are due only the
    workers can say. Those of a worker that is gone are back in their queue at once."""
    told: Mapping[str, int] = field(default_factory=dict)
    """The broker's own count of what workers hold, for people: it may be some seconds old."""
    delayed: Delayed = field(default_factory=Delayed)
    missing: frozenset[str] = frozenset()
    """Queues that the broker says do not exist, and that hold nothing therefore."""
    remark: str = ""
    """What is not known for good, and what follows from that."""

    def queued(self, queues: Collection[str]) -> Count:
        """All messages in the lists, and those that wait elsewhere until they are due."""
        return self._waiting(queues) + self.delayed.of(queues)

    def queued_due(self, queues: Collection[str]) -> Count:
        return self._waiting(queues).less(sum(self.later.get(queue, 0) for queue in queues))

    def _waiting(self, queues: Collection[str]) -> Count:
        total = NOTHING
        for queue in queues:
            total += self.lengths.get(queue, UNKNOWN)
        return total

    def delivered(self, queues: Collection[str]) -> Count:
        """All messages that workers hold unacknowledged."""
        if self.counts_only:
            known = self.unacked is not None and all(queue in self.told for queue in queues)
            return Count.exactly(sum(self.told[queue] for queue in queues)) if known else UNKNOWN
        return self.delivered_due(queues) + self.unacked_later.of(queues)

    def delivered_due(self, queues: Collection[str]) -> Count:
        return UNKNOWN if self.unacked is None else self.unacked.of(queues)

    def not_due(self, queues: Collection[str]) -> Count:
        held = UNKNOWN if self.unacked is None else self.unacked_later.of(queues)
        waiting = sum(self.later.get(queue, 0) for queue in queues)
        unread = any(queue in self.unread or queue in self.failures for queue in queues)
        return held + Count(waiting, None if unread else waiting) + self.delayed.of(queues)

    def next_due_at(self, queues: Collection[str]) -> float | None:
        known = [self.next_due[queue] for queue in queues if queue in self.next_due]
        # One that may be another pool's wakes nobody: it would wake them all.
        if self.delayed.next_due is not None and self.delayed.goes_to(queues):
            known.append(self.delayed.next_due)
        return min(known, default=None)

    def tasks_due(self, queues: Collection[str]) -> frozenset[str]:
        """Ids of the due tasks that workers hold and that may be of these queues."""
        ours = frozenset(queues)
        return frozenset(
            delivery.task
            for delivery in self.deliveries
            if delivery.due(self.at) and (not delivery.queues or delivery.queues & ours)
        )

    def taken_before(self, queues: Collection[str], at: float) -> int:
        """How many due messages of these queues a worker took before this time, and still holds."""
        return sum(bisect_left(self.taken_at.get(queue, ()), at) for queue in queues)

    def first_taken_at(self, queues: Collection[str]) -> float | None:
        return min((self.taken_at[queue][0] for queue in queues if self.taken_at.get(queue)), default=None)

    def failure(self, queues: Collection[str]) -> BrokerFailure | None:
        """The first thing that keeps the demand of these queues from being known."""
        for queue in queues:
            if queue in self.failures:
                return self.failures[queue]
        return self.unacked_failure
