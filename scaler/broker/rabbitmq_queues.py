"""How far RabbitMQ's figures of a queue can be believed, as a pure function of what was read and when.

A classic queue counts its messages as it is asked: both figures are of that moment, and of one. Any other
kind answers from a table that its leader writes every `quorum_tick_interval`, 5 s unless somebody changed
it; where the leader has written nothing yet, RabbitMQ says 0 and 0. So for those

1. what is ready is the answer to a passive declare, which asks the leader, where the user may ask;
2. a figure of what workers hold is a bound for what they hold now, with what has left the queue since; what
   came and was taken within a table's age is in neither, and the workers themselves tell of it;
3. none of it is believed to be 0 before it was seen to be 0, beside an unchanged queue, for as long as a
   figure can be old;
4. a queue without a leader that is there is unknown. A passive declare says 0 of one, too.

Measured in docs/decisions/0017-rabbitmq.md. `scaler.broker.rabbitmq_broker` reads, the counts for a pool are
taken from `scaler.broker.backlog`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from scaler.pool.count import UNKNOWN, Count

STALE_SECONDS: Final = 6.0
"""How old a figure of a quorum queue may be: RabbitMQ's tick, and a second for it to be carried out."""

CLASSIC: Final = "classic"
_STATES: Final = frozenset({"running", "flow", "idle"})


class Row(msgspec.Struct, kw_only=True):
    """One queue in the management API's list. A queue whose node is away has no figures."""

    name: str
    type: str = CLASSIC
    state: str | None = None
    leader: str | None = None
    online: list[str] | None = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    messages: int | None = None
    """At least the two before; a queue of the delayed delivery counts here what it is passing on."""

    @property
    def counted(self) -> bool:
        """Both figures are there, and the queue is in a state to have made them."""
        figures = (self.messages_ready, self.messages_unacknowledged)
        if self.state not in _STATES or any(figure is None or figure < 0 for figure in figures):
            return False
        return self.type == CLASSIC or self.leader is None or self.leader in (self.online or [self.leader])

    @property
    def ready(self) -> int:
        return self.messages_ready or 0

    @property
    def unacked(self) -> int:
        return self.messages_unacknowledged or 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one queue."""

    ready: Count
    unacked: int | None
    """The most that workers may hold; None where nothing bounds it."""
    told: int | None
    """RabbitMQ's figure of it, as old as it may be; None where there is none, or a 0 too young."""


NONE_THERE: Final = Figures(Count.exactly(0), 0, 0)
NOTHING_KNOWN: Final = Figures(UNKNOWN, None, None)


@dataclass(slots=True)
class Watch:
    """One queue that is not classic, from read to read."""

    _still_since: float | None = None

    def figures(self, row: Row, declared: int, consumers: int, at: float) -> Figures:
        """By a figure that may be old, and an answer to a passive declare from just now."""
        ready = Count.exactly(declared)
        if not declared and not consumers and row.ready:
            # Either all of it was taken by workers that are gone since, or the leader did not answer.
            ready = Count(0, row.ready)
        return self._with_held(ready, row, declared, at)

    def figures_of_table(self, row: Row, at: float) -> Figures:
        """By a figure that may be old, and nothing else: the user may not ask (RabbitMQ 4.3.1 and later)."""
        found = self._with_held(Count.exactly(row.ready), row, row.ready, at)
        if not row.ready and found.unacked != 0:
            return Figures(UNKNOWN, found.unacked, found.told)
        return found

    def _with_held(self, ready: Count, row: Row, declared: int, at: float) -> Figures:
        if row.unacked or row.ready != declared:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = at
        if self._still_since is not None and at - self._still_since >= STALE_SECONDS:
            return Figures(ready, 0, 0)
        # What was in the queue then and is not now may be with a worker.
        most = row.unacked + max(0, row.ready - declared)
        return Figures(ready, most or None, row.unacked or None)


def figures_of_classic(row: Row) -> Figures:
    return Figures(Count.exactly(row.ready), row.unacked, row.unacked)
