"""Reads queue lengths and unacknowledged messages from Redis.

It owns the questions and their order. All lists of all queues and the unacknowledged tags are one round
trip a tick; short lists that are not empty are two more, for what is not due in them. It writes nothing to
Redis and never returns a number that it did not read.

The connection and what its failures mean are in `scaler.broker.redis_connection`. Key names and what the
stored bytes mean are in `scaler.broker.redis_layout`, what unacknowledged messages are in
`scaler.broker.unacked`; the counts for a pool are taken from the returned `scaler.broker.backlog.Backlog`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.broker.not_due import FilledList, NotDue, look
from scaler.broker.redis_connection import ANSWER_SECONDS, FAILURES, LOST, RedisConnection, failure
from scaler.broker.redis_layout import Layout
from scaler.broker.unacked import Attribution, Command, natural
from scaler.broker.url import RedisUrl, SentinelUrl
from scaler.pool.count import Count

TAGS_AT_ONCE: Final = 50_000
"""Unacknowledged messages up to which their tags are read, 2 MB a tick; above, their queues are unknown."""

AGES_AT_ONCE: Final = 1_000
"""Of how many unacknowledged messages it is known when they were taken, the oldest."""


@dataclass(slots=True)
class _Lengths:
    """The question for all lengths: the same each tick, so its bytes are made once."""

    queues: tuple[str, ...] = ()
    lists: tuple[tuple[str, ...], ...] = ()
    packed: list[bytes] | None = None

    @classmethod
    def of(cls, queues: tuple[str, ...], layout: Layout) -> _Lengths:
        return cls(queues, tuple(layout.lists_of(queue) for queue in queues))

    def packed_by(self, connection: RedisConnection) -> list[bytes]:
        if self.packed is None:
            self.packed = connection.pack([("LLEN", key) for keys in self.lists for key in keys])
        return self.packed

    @property
    def count(self) -> int:
        return sum(len(keys) for keys in self.lists)


@dataclass(slots=True)
class _Survey:
    lengths: dict[str, Count] = field(default_factory=dict)
    not_due: NotDue = field(default_factory=NotDue)
    failures: dict[str, BrokerFailure] = field(default_factory=dict)
    tags: list[bytes] | None = None
    oldest: list[tuple[bytes, float]] = field(default_factory=list)
    """Tags with the time at which they were taken, by that time."""
    tags_failure: BrokerFailure | None = None

    def take(self, not_due: NotDue) -> None:
        """What lists hold now is truer than what they held, and still from before the tags are read."""
        self.not_due = not_due
        for queue, more in not_due.grown.items():
            self.lengths[queue] = self.lengths[queue].less(-more)


class RedisBroker:
    """Reads the backlog of one Redis over one connection."""

    def __init__(self, url: RedisUrl | SentinelUrl, layout: Layout) -> None:
        self._url = url
        self._layout = layout
        self._connection = RedisConnection(url, layout)
        self._attribution = Attribution(layout)
        self._messages_unacked: int | None = None
        self._lengths = _Lengths()

    async def read(self, queues: Collection[str], at: float) -> Backlog:
        """Lengths of these queues and all that is unacknowledged, now; `at` says what is due.

        A key that cannot be read is unknown in the result. Raises BrokerFailure where nothing can.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection.follow()
                survey = await self._survey(tuple(queues), at)
        except FAILURES as error:
            await self.close()
            raise failure(self._url, error) from error
        except BaseException:
            await self.close()
            raise
        found = Backlog(
            at=at,
            lengths=survey.lengths,
            later=survey.not_due.later,
            unread=frozenset(survey.not_due.unread),
            unacked=Unacked(complete=False) if survey.tags_failure is None else None,
            next_due=survey.not_due.next_due,
            failures=survey.failures,
            unacked_failure=survey.tags_failure,
        )
        if survey.tags is None:
            return found
        await self._learn(survey.tags)
        tally = self._attribution.tally(survey.tags, survey.oldest, at)
        for queue, eta in survey.not_due.next_due.items():
            tally.next_due[queue] = min(eta, tally.next_due.get(queue, eta))
        return replace(
            found,
            unacked=tally.due,
            unacked_later=tally.later,
            next_due=tally.next_due,
            deliveries=tally.deliveries,
            taken_at=tally.taken_at,
        )

    async def _learn(self, tags: Sequence[bytes]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._attribution.learn(tags, self._connection.ask)
        except FAILURES:
            # What was not learnt leaves this tick's counts lower bounds; the next read says what failed.
            await self.close()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._connection.close()

    async def _survey(self, queues: tuple[str, ...], at: float) -> _Survey:
        if self._lengths.queues != queues:
            self._lengths = _Lengths.of(queues, self._layout)
        # Lists before tags: a message taken in between counts twice for one tick. The other way round
        # it would count not at all, and a busy pool could look idle.
        tail: list[Command] = [("HLEN", self._layout.unacked_key)]
        if few := self._messages_unacked is not None and self._messages_unacked <= TAGS_AT_ONCE:
            tail += self._ask_for_tags
        replies = iter(await self._ask_again_if_stale(tail))
        survey, filled = self._read_lengths(replies)
        self._messages_unacked = natural(answer := next(replies))
        tags = list(replies)
        if filled:
            survey.take(await look(filled, at, self._connection.ask))
        if self._messages_unacked is not None:
            if self._messages_unacked > TAGS_AT_ONCE:
                return survey
            if filled or not few:
                tags = await self._connection.ask(self._ask_for_tags)
            answer = tags[0]
        if isinstance(answer, list) and all(isinstance(tag, bytes) for tag in answer):
            survey.tags, survey.oldest = answer, _scores(tags[1])
        else:
            survey.tags_failure = failure(self._url, answer, self._layout.unacked_key)
        return survey

    def _read_lengths(self, replies: Iterator[Any]) -> tuple[_Survey, list[FilledList]]:
        survey, filled = _Survey(), []
        for queue, keys in zip(self._lengths.queues, self._lengths.lists, strict=True):
            total, known = 0, True
            for key in keys:
                length = natural(reply := next(replies))
                if length is None:
                    known, survey.failures[queue] = False, failure(self._url, reply, key)
                elif length:
                    total += length
                    filled.append(FilledList(queue, key, length))
            survey.lengths[queue] = Count(total, total if known else None)
        return survey, filled

    @property
    def _ask_for_tags(self) -> list[Command]:
        index = self._layout.unacked_index_key
        return [("HKEYS", self._layout.unacked_key), ("ZRANGE", index, 0, AGES_AT_ONCE - 1, "WITHSCORES")]

    async def _ask_again_if_stale(self, commands: Sequence[Command]) -> list[Any]:
        """Ask; where a connection from an earlier tick turns out dead, once more over a new one."""
        stale = self._connection.open
        lengths = self._lengths.packed_by(self._connection)
        try:
            return await self._connection.ask(commands, lengths, self._lengths.count)
        except LOST:
            if not stale:
                raise
            await self.close()
            return await self._connection.ask(commands, lengths, self._lengths.count)


def _scores(reply: object) -> list[tuple[bytes, float]]:
    """Members with their scores; nothing where the reply is no list of both."""
    if not isinstance(reply, list):
        return []
    try:
        return [(tag, float(score)) for tag, score in zip(reply[::2], reply[1::2], strict=True)]
    except ValueError:
        return []
