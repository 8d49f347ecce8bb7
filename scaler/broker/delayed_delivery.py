"""What waits in RabbitMQ for its time: the queues of Celery's native delayed delivery, as pure arithmetic.

A task with a countdown passes the queues `celery_delayed_27` to `celery_delayed_0` (Celery 5.5 and later,
with quorum queues and exchanges that are not direct; kombu/transport/native_delayed_delivery.py). In level k
it stays for 2**k seconds where its delay has that bit, so from a number of messages alone nobody can tell
which queue they will go to, nor when: in level k that is 2**k seconds after they came there at the earliest,
and the other bits may make it twice that.

It owns those bounds. Whose the messages are is told by the exchange that they leave through: those of queues
that it is bound to. `scaler.broker.rabbitmq_broker` reads; the counts for a pool are in
`scaler.broker.backlog.Delayed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scaler.broker.rabbitmq_queues import STALE_SECONDS

EXCHANGE: Final = "celery_delayed_delivery"
LEVELS: Final[Mapping[str, int]] = {f"celery_delayed_{level}": 2**level for level in range(28)}
"""Queue to the seconds that a message stays in it."""
SOON_SECONDS: Final = 16
"""Levels up to this one are due soon, whenever their messages came."""


@dataclass(slots=True)
class _Batch:
    messages: int
    came_after: float | None
    """None where nobody looked."""
    came_before: float


@dataclass(slots=True)
class Level:
    """The messages of one level, the oldest first: they leave in the order in which they came."""

    seconds: int
    _batches: deque[_Batch] = field(default_factory=deque)
    _empty_since: float | None = None

    def note(self, messages: int, at: float, looked_at: float | None) -> None:
        """There are so many now; `looked_at` is when the level was last read before."""
        after = None if looked_at is None else looked_at - STALE_SECONDS
        while self._batches and self._batches[0].came_before + self.seconds + STALE_SECONDS < at:
            # They have left, so that as many as are missing now came unseen.
            self._batches.popleft()
            after = None
        self._empty_since = None if messages else self._empty_since or at
        more = messages - sum(batch.messages for batch in self._batches)
        if more > 0:
            self._batches.append(_Batch(more, after, at))
        while more < 0:
            gone = min(-more, self._batches[0].messages)
            self._batches[0].messages -= gone
            more += gone
            if not self._batches[0].messages:
                self._batches.popleft()

    def certain(self, at: float) -> bool:
        """Whether the last number can be told: a 0 only once it is older than such a figure may be."""
        return self._empty_since is None or at - self._empty_since >= STALE_SECONDS

    def next_due(self, at: float) -> float | None:
        """The earliest time at which one of them may be due; None where that cannot be told."""
        if not self._batches:
            return None
        came_after = self._batches[0].came_after
        if came_after is None:
            return at if self.seconds <= SOON_SECONDS else None
        return max(at, came_after + self.seconds)
