"""Reads queue lengths and unacknowledged messages from Redis: the only file that imports a broker's client.

It owns one connection, the round trips over it, and what a failure of them means. All lists of all
queues and the unacknowledged tags are one round trip a tick; short lists that are not empty are two more,
for what is not due in them. It writes nothing to Redis and never returns a number that it did not read.

Key names and what the stored bytes mean are in `scaler.broker.redis_layout`, what unacknowledged messages are
in `scaler.broker.unacked`; the counts for a pool are taken from the returned `scaler.broker.backlog.Backlog`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.broker.not_due import FilledList, NotDue, look
from scaler.broker.redis_layout import Layout
from scaler.broker.redis_url import RedisUrl, redis_url
from scaler.broker.unacked import Attribution, Command, natural
from scaler.contract import Ready
from scaler.pool.count import Count

ANSWER_SECONDS: Final = 1.5
"""How long one read may take, connecting included. Longer hides an outage, shorter invents one."""
TAGS_AT_ONCE: Final = 50_000
"""Unacknowledged messages up to which their tags are read, 2 MB a tick; above, their queues are unknown."""

AGES_AT_ONCE: Final = 1_000
"""Of how many unacknowledged messages it is known when they were taken, the oldest."""

_NOT_READY: Final = (BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
_NOT_READY_WORDS: Final = ("MISCONF", "BUSY", "OOM", "max number of clients")
_REFUSED: Final = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
)
_UNREACHABLE: Final = (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError)


@dataclass(slots=True)
class _Lengths:
    """The question for all lengths: the same each tick, so its bytes are made once."""

    queues: tuple[str, ...] = ()
    lists: tuple[tuple[str, ...], ...] = ()
    packed: list[bytes] | None = None

    @classmethod
    def of(cls, queues: tuple[str, ...], layout: Layout) -> _Lengths:
        return cls(queues, tuple(layout.lists_of(queue) for queue in queues))

    def packed_by(self, connection: Connection) -> list[bytes]:
        if self.packed is None:
            commands = [("LLEN", key) for keys in self.lists for key in keys]
            self.packed = list(connection.pack_commands(commands))
        return self.packed


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
    """Reads the backlog over one connection, which it makes anew after any failure."""

    def __init__(self, url_file: Path, layout: Layout) -> None:
        self._url_file = url_file
        self._layout = layout
        self._url: RedisUrl | None = None
        self._connection: Connection | None = None
        self._attribution = Attribution(layout)
        self._messages_unacked: int | None = None
        self._lengths = _Lengths()

    async def read(self, queues: Collection[str], at: float) -> Backlog:
        """Lengths of these queues and all that is unacknowledged, now; `at` says what is due.

        A key that cannot be read is unknown in the result. Raises BrokerFailure where nothing can.
        """
        url = await self._current_url()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                survey = await self._survey(url, tuple(queues), at)
        except (*_UNREACHABLE, RedisError) as error:
            await self.close()
            raise _failure(url, error) from error
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
        await self._learn(url, survey.tags)
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

    async def _learn(self, url: RedisUrl, tags: Sequence[bytes]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._attribution.learn(tags, partial(self._ask, url))
        except (*_UNREACHABLE, RedisError):
            # What was not learnt leaves this tick's counts lower bounds; the next read says what failed.
            await self.close()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def _current_url(self) -> RedisUrl:
        """The URL as the file has it now: a mounted Secret changes without a restart."""
        try:
            url = redis_url(self._url_file.read_text())
        except OSError as error:
            sentence = f"the file with the broker's URL cannot be read: {error.strerror}"
            raise BrokerFailure(Ready.BROKER_UNREACHABLE, sentence) from error
        except ValueError as error:
            raise BrokerFailure(Ready.BROKER_UNREACHABLE, str(error)) from None
        if url != self._url:
            self._url = url
            self._attribution = Attribution(self._layout)
            await self.close()
        return url

    async def _survey(self, url: RedisUrl, queues: tuple[str, ...], at: float) -> _Survey:
        if self._lengths.queues != queues:
            self._lengths = _Lengths.of(queues, self._layout)
        # Lists before tags: a message taken in between counts twice for one tick. The other way round
        # it would count not at all, and a busy pool could look idle.
        tail: list[Command] = [("HLEN", self._layout.unacked_key)]
        if few := self._messages_unacked is not None and self._messages_unacked <= TAGS_AT_ONCE:
            tail += self._ask_for_tags
        replies = iter(await self._ask_again_if_stale(url, tail, after=self._lengths))
        survey, filled = self._read_lengths(url, replies)
        self._messages_unacked = natural(answer := next(replies))
        tags = list(replies)
        if filled:
            survey.take(await look(filled, at, partial(self._ask, url)))
        if self._messages_unacked is not None:
            if self._messages_unacked > TAGS_AT_ONCE:
                return survey
            if filled or not few:
                tags = await self._ask(url, self._ask_for_tags)
            answer = tags[0]
        if isinstance(answer, list) and all(isinstance(tag, bytes) for tag in answer):
            survey.tags, survey.oldest = answer, _scores(tags[1])
        else:
            survey.tags_failure = _failure(url, answer, self._layout.unacked_key)
        return survey

    def _read_lengths(self, url: RedisUrl, replies: Iterator[Any]) -> tuple[_Survey, list[FilledList]]:
        survey, filled = _Survey(), []
        for queue, keys in zip(self._lengths.queues, self._lengths.lists, strict=True):
            total, known = 0, True
            for key in keys:
                length = natural(reply := next(replies))
                if length is None:
                    known, survey.failures[queue] = False, _failure(url, reply, key)
                elif length:
                    total += length
                    filled.append(FilledList(queue, key, length))
            survey.lengths[queue] = Count(total, total if known else None)
        return survey, filled

    @property
    def _ask_for_tags(self) -> list[Command]:
        index = self._layout.unacked_index_key
        return [("HKEYS", self._layout.unacked_key), ("ZRANGE", index, 0, AGES_AT_ONCE - 1, "WITHSCORES")]

    async def _ask_again_if_stale(
        self, url: RedisUrl, commands: Sequence[Command], after: _Lengths
    ) -> list[Any]:
        """Ask; where a connection from an earlier tick turns out dead, once more over a new one."""
        stale = self._connection is not None
        try:
            return await self._ask(url, commands, after)
        except RedisConnectionError:
            if not stale:
                raise
            await self.close()
            return await self._ask(url, commands, after)

    async def _ask(
        self, url: RedisUrl, commands: Sequence[Command], after: _Lengths | None = None
    ) -> list[Any]:
        """One round trip. An error reply to one command is that command's reply."""
        connection = self._connection
        if connection is None:
            connection = self._connection = _connection(url)
            await connection.connect()
        packed = list(connection.pack_commands(commands))
        expected = len(commands)
        if after is not None:
            packed = [*after.packed_by(connection), *packed]
            expected += sum(len(keys) for keys in after.lists)
        await connection.send_packed_command(packed, check_health=False)
        replies: list[Any] = []
        for _ in range(expected):
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies


def _connection(url: RedisUrl) -> Connection:
    options: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "db": url.database,
        "username": url.username,
        "password": url.password,
        # None here, for one deadline around a whole read costs a third of one around each of 4,000 replies.
        "socket_timeout": None,
        "socket_connect_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        # RESP3's HELLO is refused by Redis before 6 (redis/redis-py#4052).
        "protocol": 2,
        "driver_info": None,
    }
    if not url.tls:
        return Connection(**options)
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in url.options:
            options[name] = url.options[name]
    # kombu takes CERT_REQUIRED and required alike (kombu/utils/url.py).
    verify = url.options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    options |= {"ssl_cert_reqs": verify, "ssl_check_hostname": verify == "required"}
    return SSLConnection(**options)


def _scores(reply: object) -> list[tuple[bytes, float]]:
    """Members with their scores; nothing where the reply is no list of both."""
    if not isinstance(reply, list):
        return []
    try:
        return [(tag, float(score)) for tag, score in zip(reply[::2], reply[1::2], strict=True)]
    except ValueError:
        return []


def _failure(url: RedisUrl, answer: object, key: str = "") -> BrokerFailure:
    """What an exception, or a reply that should have been something else, means."""
    where = f"{url}, key {key!r}," if key else str(url)
    said = url.without_password(str(answer))[:200]
    if isinstance(answer, _REFUSED):
        return BrokerFailure(Ready.BROKER_REFUSED, f"{where} refuses the scaler's credentials: {said}")
    if isinstance(answer, _NOT_READY) or said.startswith(_NOT_READY_WORDS):
        return BrokerFailure(Ready.BROKER_NOT_READY, f"{where} is not ready: {said}")
    if isinstance(answer, _UNREACHABLE) and not isinstance(answer, InvalidResponse):
        said = said or f"no answer within {ANSWER_SECONDS:g} s"
        return BrokerFailure(Ready.BROKER_UNREACHABLE, f"{where} cannot be reached: {said}")
    return BrokerFailure(Ready.BROKER_UNREADABLE, f"{where} gave an answer that is of no use: {said}")
