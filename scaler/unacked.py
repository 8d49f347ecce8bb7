"""Whose messages are unacknowledged: one hash holds those of all queues, under tags that name none.

It owns what is known of each tag. A message's body is read once, when its tag is first seen; its address
and the broker's own bindings then tell its queues. What is not known yet is counted as not known.

It asks through whatever it is given, in the scaler `scaler.broker`; what the bytes mean is in
`scaler.redis_layout`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from scaler.backlog import Unacked
from scaler.redis_layout import Address, Layout, address_of, bindings_in, queues_of_message

BODIES_AT_ONCE: Final = 5_000
"""New bodies a tick; the rest waits for the next tick, and the counts are lower bounds till then."""
BYTES_AT_ONCE: Final = 4_000_000
"""Bytes of new bodies a tick; a single larger body is never read, so its queue stays untold."""

Command = tuple[str | bytes, ...]
Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""One round trip; a command that the broker refused has the error as its reply."""

_GONE: Final = frozenset({""})
"""In the place of a tag's queues: it was acknowledged before its body could be read."""


class Attribution:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._queues_by_tag: dict[bytes, frozenset[str]] = {}

    async def learn(self, tags: Sequence[bytes], ask: Ask) -> None:
        """Find the queues of tags not seen before, and forget those that are gone."""
        known = self._queues_by_tag
        # A message that was gone may be back: kombu keeps the tag of one that it returns to its queue.
        self._queues_by_tag = {tag: known[tag] for tag in tags if known.get(tag, _GONE) is not _GONE}
        new = [tag for tag in tags if tag not in self._queues_by_tag][:BODIES_AT_ONCE]
        if not new:
            return
        await self._learn_queues(await self._addresses(new, ask), ask)

    async def _addresses(self, tags: Sequence[bytes], ask: Ask) -> dict[bytes, Address]:
        key = self._layout.unacked_key
        sizes = await ask([("HSTRLEN", key, tag) for tag in tags])
        wanted: list[bytes] = []
        total = 0
        for tag, reply in zip(tags, sizes, strict=True):
            size = natural(reply)
            if size is not None and size > BYTES_AT_ONCE:
                self._queues_by_tag[tag] = frozenset()
            elif size is not None and total + size <= BYTES_AT_ONCE:
                total += size
                wanted.append(tag)
        bodies = await ask([("HGET", key, tag) for tag in wanted])
        addresses: dict[bytes, Address] = {}
        for tag, body in zip(wanted, bodies, strict=True):
            if isinstance(body, bytes):
                address = address_of(body)
                if address is None:
                    self._queues_by_tag[tag] = frozenset()
                else:
                    addresses[tag] = address
            elif body is None:
                self._queues_by_tag[tag] = _GONE
        return addresses

    async def _learn_queues(self, addresses: dict[bytes, Address], ask: Ask) -> None:
        exchanges = sorted({address.exchange for address in addresses.values() if address.exchange})
        members = await ask([("SMEMBERS", self._layout.bindings_key(name)) for name in exchanges])
        tables = {
            exchange: bindings_in(reply, self._layout.separator)
            for exchange, reply in zip(exchanges, members, strict=True)
            if isinstance(reply, list | set)
        }
        for tag, address in addresses.items():
            if not address.exchange or address.exchange in tables:
                bindings = tables.get(address.exchange, ())
                self._queues_by_tag[tag] = _one_object(queues_of_message(address, bindings))

    def tally(self, tags: Sequence[bytes]) -> Unacked:
        """Count the tags of one read by what is known of their queues."""
        groups = Counter(self._queues_by_tag.get(tag) for tag in tags)
        unread = groups.pop(None, 0)
        groups.pop(_GONE, None)
        return Unacked(
            by_queue={next(iter(group)): many for group, many in groups.items() if group and len(group) == 1},
            by_queues={group: many for group, many in groups.items() if group and len(group) > 1},
            anywhere=groups.get(frozenset(), 0),
            complete=unread == 0,
        )


def natural(reply: object) -> int | None:
    """The number in a reply that must be one of 0, 1, 2 ..., else None."""
    return reply if type(reply) is int and reply >= 0 else None


@lru_cache(maxsize=4096)
def _one_object(queues: frozenset[str]) -> frozenset[str]:
    """Equal sets as one object: a set of its own for each of 50,000 tags would be 10 MB."""
    return queues
