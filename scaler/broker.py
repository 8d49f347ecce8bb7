"""Reads queue lengths and unacknowledged messages from Redis: the only file that imports a broker's client.

It owns one connection, the round trips over it, and what a failure of them means. All lists of all
queues and the unacknowledged tags are one round trip a tick. It writes nothing to Redis and never returns
a number that it did not read.

Whose messages are unacknowledged is found in `scaler.unacked`; the counts for a pool are taken from the
returned `scaler.backlog.Backlog`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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

from scaler.backlog import Backlog, BrokerFailure, Unacked
from scaler.contract import Ready
from scaler.decision import Count
from scaler.redis_layout import Layout
from scaler.redis_url import RedisUrl, redis_url
from scaler.unacked import Attribution, Command, natural

ANSWER_SECONDS: Final = 1.5
"""How long one read may take, connecting included. Longer hides an outage, shorter invents one."""
TAGS_AT_ONCE: Final = 50_000
"""Unacknowledged messages up to which their tags are read, 2 MB a tick; above, their queues are unknown."""

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
    failures: dict[str, BrokerFailure] = field(default_factory=dict)
    tags: list[bytes] | None = None
    tags_failure: BrokerFailure | None = None


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

    async def read(self, queues: Collection[str]) -> Backlog:
        """Lengths of these queues and all that is unacknowledged, now.

        A key that cannot be read is unknown in the result. Raises BrokerFailure where nothing can.
        """
        url = await self._current_url()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                survey = await self._survey(url, tuple(queues))
        except (*_UNREACHABLE, RedisError) as error:
            await self.close()
            raise _failure(url, error) from error
        except BaseException:
            await self.close()
            raise
        if survey.tags is None:
            unacked = Unacked(complete=False) if survey.tags_failure is None else None
        else:
            await self._learn(url, survey.tags)
            unacked = self._attribution.tally(survey.tags)
        return Backlog(
            lengths=survey.lengths,
            failures=survey.failures,
            unacked=unacked,
            unacked_failure=survey.tags_failure,
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

    async def _survey(self, url: RedisUrl, queues: tuple[str, ...]) -> _Survey:
        if self._lengths.queues != queues:
            self._lengths = _Lengths.of(queues, self._layout)
        # Lists before tags: a message taken in between counts twice for one tick. The other way round
        # it would count not at all, and a busy pool could look idle.
        tail: list[Command] = [("HLEN", self._layout.unacked_key)]
        ask_for_tags: Command = ("HKEYS", self._layout.unacked_key)
        if few := self._messages_unacked is not None and self._messages_unacked <= TAGS_AT_ONCE:
            tail.append(ask_for_tags)
        replies = iter(await self._ask_again_if_stale(url, tail, after=self._lengths))
        survey = _Survey()
        for queue, keys in zip(queues, self._lengths.lists, strict=True):
            total, known = 0, True
            for key in keys:
                length = natural(reply := next(replies))
                if length is None:
                    known, survey.failures[queue] = False, _failure(url, reply, key)
                else:
                    total += length
            survey.lengths[queue] = Count(total, total if known else None)
        self._messages_unacked = natural(reply := next(replies))
        if self._messages_unacked is not None:
            if self._messages_unacked > TAGS_AT_ONCE:
                return survey
            reply = next(replies) if few else (await self._ask(url, [ask_for_tags]))[0]
        if isinstance(reply, list) and all(isinstance(tag, bytes) for tag in reply):
            survey.tags = reply
        else:
            survey.tags_failure = _failure(url, reply, self._layout.unacked_key)
        return survey

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
