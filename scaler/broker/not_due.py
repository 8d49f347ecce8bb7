"""What is not due in the queues' lists: tasks with an ETA that no worker has taken yet.

A list tells nothing of its messages but their number, so short ones are read whole, each tick, and long
ones are not: what was not looked at counts as due. Nothing is remembered, as a list's messages have no
names to be remembered by.

It asks through whatever it is given, in the scaler `scaler.broker.redis_broker`; those that workers hold are
in `scaler.broker.unacked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.broker.redis_layout import eta_in
from scaler.broker.unacked import BYTES_AT_ONCE, Ask, natural

LIST_LOOKED_AT: Final = 500
"""Messages of a list up to which it is read."""
MESSAGES_LOOKED_AT: Final = 2_000
"""Messages of all lists that are read in a tick; they are also bound by BYTES_AT_ONCE."""


@dataclass(frozen=True, slots=True)
class FilledList:
    queue: str
    key: str
    length: int


@dataclass(slots=True)
class NotDue:
    grown: dict[str, int] = field(default_factory=dict)
    """By how much a queue is longer now than it was said to be."""
    later: dict[str, int] = field(default_factory=dict)
    next_due: dict[str, float] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    """Queues with messages that were not looked at."""


async def look(lists: Sequence[FilledList], at: float, ask: Ask) -> NotDue:
    """Look through the short ones of these lists; by the answer's end all of it is the past."""
    found = NotDue()
    wanted = await _fitting(lists, ask)
    keys = {each.key for each in wanted}
    found.unread = {each.queue for each in lists if each.key not in keys}
    answers = await ask([("LRANGE", each.key, 0, LIST_LOOKED_AT) for each in wanted])
    for each, bodies in zip(wanted, answers, strict=True):
        queue = each.queue
        if not isinstance(bodies, list) or len(bodies) > LIST_LOOKED_AT:
            found.unread.add(queue)
            continue
        found.grown[queue] = found.grown.get(queue, 0) + len(bodies) - each.length
        etas = [eta for body in bodies if (eta := eta_in(body)) is not None and eta > at]
        if etas:
            found.later[queue] = found.later.get(queue, 0) + len(etas)
            found.next_due[queue] = min(*etas, found.next_due.get(queue, etas[0]))
    return found


async def _fitting(lists: Sequence[FilledList], ask: Ask) -> list[FilledList]:
    short: list[FilledList] = []
    messages = size = 0
    for each in lists:
        if each.length <= LIST_LOOKED_AT and messages + each.length <= MESSAGES_LOOKED_AT:
            messages += each.length
            short.append(each)
    fitting: list[FilledList] = []
    for each, reply in zip(short, await ask([("MEMORY", "USAGE", each.key) for each in short]), strict=True):
        used = natural(reply)
        if used is not None and size + used <= BYTES_AT_ONCE:
            size += used
            fitting.append(each)
    return fitting
