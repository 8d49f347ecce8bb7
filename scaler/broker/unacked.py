"""Whose messages are unacknowledged: one hash holds those of all queues, under tags that name none.

It owns what is known of each tag. A message's body is read once, when its tag is first seen; its address
and the broker's own bindings then tell its queues, its headers which task it is and when that is due. What
is not known yet is counted as not known.

It asks through whatever it is given, in the scaler `scaler.broker.redis_broker`; what the bytes mean is in
`scaler.broker.redis_layout`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from scaler.broker.backlog import Delivery, Unacked
from scaler.broker.redis_layout import Entry, Layout, bindings_in, entry_in, queues_of_message

BODIES_AT_ONCE: Final = 5_000
"""New bodies a tick; the rest waits for the next tick, and the counts are lower bounds till then."""
BYTES_AT_ONCE: Final = 4_000_000
"""Bytes of new bodies a tick; a single larger body is never read, so its queue stays untold."""

Command = tuple[str | bytes | int, ...]
Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""One round trip; a command that the broker refused has the error as its reply."""


@dataclass(slots=True, kw_only=True)
class Tally:
    due: Unacked
    later: Unacked
    deliveries: list[Delivery]
    next_due: dict[str, float] = field(default_factory=dict)
    taken_at: dict[str, list[float]] = field(default_factory=dict)


class Attribution:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._by_tag: dict[bytes, Delivery] = {}

    async def learn(self, tags: Sequence[bytes], ask: Ask) -> None:
        """Find out what tags not seen before stand for, and forget those that are gone."""
        known = self._by_tag
        # A message that was gone may be back: kombu keeps the tag of one that it returns to its queue.
        self._by_tag = {tag: known[tag] for tag in tags if known.get(tag, _GONE) is not _GONE}
        new = [tag for tag in tags if tag not in self._by_tag][:BODIES_AT_ONCE]
        if new:
            await self._learn_queues(await self._entries(new, ask), ask)

    def tally(self, tags: Sequence[bytes], oldest: Iterable[tuple[bytes, float]], at: float) -> Tally:
        """Count the tags of one read by what is known of them; `oldest` with when they were taken."""
        due: Counter[frozenset[str]] = Counter()
        later: Counter[frozenset[str]] = Counter()
        deliveries = [found for tag in tags if (found := self._by_tag.get(tag)) and found is not _GONE]
        gone = sum(self._by_tag.get(tag) is _GONE for tag in tags)
        tally = Tally(due=Unacked(), later=Unacked(), deliveries=deliveries)
        for delivery in deliveries:
            eta = delivery.eta
            if eta is None or eta <= at:
                due[delivery.queues] += 1
                continue
            later[delivery.queues] += 1
            for queue in delivery.queues:
                tally.next_due[queue] = min(eta, tally.next_due.get(queue, eta))
        tally.due = _unacked(due, complete=len(deliveries) + gone == len(tags))
        tally.later = _unacked(later, complete=True)
        for tag, taken_at in oldest:
            found = self._by_tag.get(tag)
            if found is not None and found.due(at):
                for queue in found.queues:
                    tally.taken_at.setdefault(queue, []).append(taken_at)
        return tally

    async def _entries(self, tags: Sequence[bytes], ask: Ask) -> dict[bytes, Entry]:
        key = self._layout.unacked_key
        sizes = await ask([("HSTRLEN", key, tag) for tag in tags])
        wanted: list[bytes] = []
        total = 0
        for tag, reply in zip(tags, sizes, strict=True):
            size = natural(reply)
            if size is not None and size > BYTES_AT_ONCE:
                self._by_tag[tag] = _ANYBODYS
            elif size is not None and total + size <= BYTES_AT_ONCE:
                total += size
                wanted.append(tag)
        bodies = await ask([("HGET", key, tag) for tag in wanted])
        entries: dict[bytes, Entry] = {}
        for tag, body in zip(wanted, bodies, strict=True):
            if body is None:
                self._by_tag[tag] = _GONE
            elif isinstance(body, bytes):
                entry = entry_in(body)
                if entry is None:
                    self._by_tag[tag] = _ANYBODYS
                else:
                    entries[tag] = entry
        return entries

    async def _learn_queues(self, entries: dict[bytes, Entry], ask: Ask) -> None:
        addresses = [entry.address for entry in entries.values()]
        exchanges = sorted({address.exchange for address in addresses if address.exchange})
        members = await ask([("SMEMBERS", self._layout.bindings_key(name)) for name in exchanges])
        tables = {
            exchange: bindings_in(reply, self._layout.separator)
            for exchange, reply in zip(exchanges, members, strict=True)
            if isinstance(reply, list | set)
        }
        for tag, entry in entries.items():
            exchange = entry.address.exchange
            if not exchange or exchange in tables:
                queues = queues_of_message(entry.address, tables.get(exchange, ()))
                self._by_tag[tag] = Delivery(_one_object(queues), entry.task, entry.eta)


_ANYBODYS: Final = Delivery(frozenset(), "", None)
_GONE: Final = Delivery(frozenset(), "", None)
"""In the place of a message that was acknowledged before its body could be read."""


def _unacked(groups: Counter[frozenset[str]], *, complete: bool) -> Unacked:
    return Unacked(
        by_queue={next(iter(group)): many for group, many in groups.items() if len(group) == 1},
        by_queues={group: many for group, many in groups.items() if len(group) > 1},
        anywhere=groups.get(frozenset(), 0),
        complete=complete,
    )


def natural(reply: object) -> int | None:
    """The number in a reply that must be one of 0, 1, 2 ..., else None."""
    return reply if type(reply) is int and reply >= 0 else None


@lru_cache(maxsize=4096)
def _one_object(queues: frozenset[str]) -> frozenset[str]:
    """Equal sets as one object: a set of its own for each of 50,000 tags would be 10 MB."""
    return queues
