"""Reads queue lengths and unacknowledged messages from Redis: the only file that imports a broker's client.

It owns one connection, the round trips over it, and what a failure of them means. All lists of all
queues and the unacknowledged tags are one round trip a tick; a message's body is read once, when its
tag is first seen. It writes nothing to Redis and never returns a number that it did not read.

Key names and what the stored bytes mean are in `scaler.redis_layout`; the counts for a pool are taken
from the returned `scaler.backlog.Backlog`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
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
from scaler.decision import UNKNOWN, Count
from scaler.redis_layout import Address, Layout, address_of, bindings_in, queues_of_message
from scaler.redis_url import RedisUrl, redis_url

ANSWER_SECONDS: Final = 1.5
"""How long one read may take, connecting included. Longer hides an outage, shorter invents one."""
TAGS_AT_ONCE: Final = 50_000
"""Unacknowledged messages up to which their tags are read, 2 MB a tick; above, their queues are unknown."""
BODIES_AT_ONCE: Final = 5_000
"""New bodies a tick; the rest waits for the next tick, and the counts are lower bounds till then."""
BYTES_AT_ONCE: Final = 4_000_000
"""Bytes of new bodies a tick; a single larger body is never read, so its queue stays untold."""

_NOT_READY: Final = (BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
_NOT_READY_WORDS: Final = ("MISCONF", "BUSY", "OOM", "max number of clients")
_REFUSED: Final = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
)
_UNREACHABLE: Final = (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError)

Command = tuple[str | bytes, ...]


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
        self._queues_by_tag: dict[bytes, frozenset[str]] = {}
        self._messages_unacked: int | None = None

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
            unacked = self._tally(survey.tags)
        return Backlog(
            lengths=survey.lengths,
            failures=survey.failures,
            unacked=unacked,
            unacked_failure=survey.tags_failure,
        )

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
            self._queues_by_tag.clear()
            await self.close()
        return url

    async def _survey(self, url: RedisUrl, queues: Sequence[str]) -> _Survey:
        lists = [self._layout.lists_of(queue) for queue in queues]
        commands: list[Command] = [("LLEN", key) for keys in lists for key in keys]
        # Lists before tags: a message taken in between counts twice for one tick. The other way round
        # it would count not at all, and a busy pool could look idle.
        commands.append(("HLEN", self._layout.unacked_key))
        ask_for_tags: Command = ("HKEYS", self._layout.unacked_key)
        if few := self._messages_unacked is not None and self._messages_unacked <= TAGS_AT_ONCE:
            commands.append(ask_for_tags)
        replies = iter(await self._ask_again_if_stale(url, commands))
        survey = _Survey()
        for queue, keys in zip(queues, lists, strict=True):
            survey.lengths[queue] = Count.exactly(0)
            for key in keys:
                length = _natural(reply := next(replies))
                survey.lengths[queue] += UNKNOWN if length is None else Count.exactly(length)
                if length is None:
                    survey.failures[queue] = _failure(url, reply, key)
        self._messages_unacked = _natural(reply := next(replies))
        if self._messages_unacked is not None:
            if self._messages_unacked > TAGS_AT_ONCE:
                return survey
            reply = next(replies) if few else (await self._ask(url, [ask_for_tags]))[0]
        if isinstance(reply, list) and all(isinstance(tag, bytes) for tag in reply):
            survey.tags = reply
        else:
            survey.tags_failure = _failure(url, reply, self._layout.unacked_key)
        return survey

    async def _ask_again_if_stale(self, url: RedisUrl, commands: Sequence[Command]) -> list[Any]:
        """Ask; where a connection from an earlier tick turns out dead, once more over a new one."""
        stale = self._connection is not None
        try:
            return await self._ask(url, commands)
        except RedisConnectionError:
            if not stale:
                raise
            await self.close()
            return await self._ask(url, commands)

    async def _ask(self, url: RedisUrl, commands: Sequence[Command]) -> list[Any]:
        """One round trip. An error reply to one command is that command's reply."""
        connection = self._connection
        if connection is None:
            connection = self._connection = _connection(url)
            await connection.connect()
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies

    async def _learn(self, url: RedisUrl, tags: Sequence[bytes]) -> None:
        """Find the queues of tags not seen before, and forget those that are gone."""
        known = self._queues_by_tag
        self._queues_by_tag = {tag: known[tag] for tag in tags if tag in known}
        new = [tag for tag in tags if tag not in known][:BODIES_AT_ONCE]
        if not new:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                addresses = await self._addresses(url, new)
                await self._learn_queues(url, addresses)
        except (*_UNREACHABLE, RedisError):
            # What was not learnt leaves this tick's counts lower bounds; the next read says what failed.
            await self.close()
        except BaseException:
            await self.close()
            raise

    async def _addresses(self, url: RedisUrl, tags: Sequence[bytes]) -> dict[bytes, Address]:
        key = self._layout.unacked_key
        sizes = await self._ask(url, [("HSTRLEN", key, tag) for tag in tags])
        wanted: list[bytes] = []
        total = 0
        for tag, reply in zip(tags, sizes, strict=True):
            size = _natural(reply)
            if size is not None and size > BYTES_AT_ONCE:
                self._queues_by_tag[tag] = frozenset()
            elif size is not None and total + size <= BYTES_AT_ONCE:
                total += size
                wanted.append(tag)
        bodies = await self._ask(url, [("HGET", key, tag) for tag in wanted])
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

    async def _learn_queues(self, url: RedisUrl, addresses: dict[bytes, Address]) -> None:
        exchanges = sorted({address.exchange for address in addresses.values() if address.exchange})
        members = await self._ask(url, [("SMEMBERS", self._layout.bindings_key(name)) for name in exchanges])
        tables = {
            exchange: bindings_in(reply, self._layout.separator)
            for exchange, reply in zip(exchanges, members, strict=True)
            if isinstance(reply, list | set)
        }
        for tag, address in addresses.items():
            if not address.exchange or address.exchange in tables:
                bindings = tables.get(address.exchange, ())
                self._queues_by_tag[tag] = _one_object(queues_of_message(address, bindings))

    def _tally(self, tags: Sequence[bytes]) -> Unacked:
        groups = Counter(self._queues_by_tag.get(tag) for tag in tags)
        unread = groups.pop(None, 0)
        groups.pop(_GONE, None)
        return Unacked(
            by_queue={next(iter(group)): many for group, many in groups.items() if group and len(group) == 1},
            by_queues={group: many for group, many in groups.items() if group and len(group) > 1},
            anywhere=groups.get(frozenset(), 0),
            complete=unread == 0,
        )


_GONE: Final = frozenset({""})
"""In the place of a tag's queues: it was acknowledged before its body could be read."""


@lru_cache(maxsize=4096)
def _one_object(queues: frozenset[str]) -> frozenset[str]:
    """Equal sets as one object: a set of its own for each of 50,000 tags would be 10 MB."""
    return queues


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


def _natural(reply: object) -> int | None:
    """The number in a reply that must be one of 0, 1, 2 ..., else None."""
    return reply if type(reply) is int and reply >= 0 else None


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
