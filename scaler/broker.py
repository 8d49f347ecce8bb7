"""Reads queue lengths and unacknowledged messages from Redis: the only file that imports a broker's client.

It owns one connection, the round trips over it, and what a failure of them means. All lists of all
queues and the unacknowledged tags are one round trip a tick; short lists that are not empty are two more,
for what is not due in them. It writes nothing to Redis and never returns a number that it did not read.

Key names and what the stored bytes mean are in `scaler.redis_layout`, what unacknowledged messages are in
`scaler.deliveries`; the counts for a pool are taken
from the returned `scaler.backlog.Backlog`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from scaler.deliveries import BYTES_AT_ONCE, Command, Deliveries
from scaler.redis_layout import Layout, eta_in
from scaler.redis_url import RedisUrl, redis_url

ANSWER_SECONDS: Final = 1.5
"""How long one read may take, connecting included. Longer hides an outage, shorter invents one."""
TAGS_AT_ONCE: Final = 50_000
"""Unacknowledged messages up to which their tags are read, 2 MB a tick; above, their queues are unknown."""
LIST_LOOKED_AT: Final = 500
"""Messages of a list up to which they are read, for what is not due among them; longer lists count as due."""
MESSAGES_LOOKED_AT: Final = 2_000
"""Messages of all lists that are read in a tick."""
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
class _Survey:
    lengths: dict[str, Count]
    later: dict[str, int] = field(default_factory=dict)
    next_due: dict[str, float] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    failures: dict[str, BrokerFailure] = field(default_factory=dict)
    tags: list[bytes] | None = None
    oldest: list[tuple[bytes, float]] = field(default_factory=list)
    """Tags with the time at which they were taken, by that time."""
    tags_failure: BrokerFailure | None = None


class RedisBroker:
    """Reads the backlog over one connection, which it makes anew after any failure."""

    def __init__(self, url_file: Path, layout: Layout) -> None:
        self._url_file = url_file
        self._layout = layout
        self._url: RedisUrl | None = None
        self._connection: Connection | None = None
        self._deliveries = Deliveries(layout)
        self._messages_unacked: int | None = None

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
            later=survey.later,
            unread=frozenset(survey.unread),
            unacked=Unacked(complete=False) if survey.tags_failure is None else None,
            next_due=survey.next_due,
            failures=survey.failures,
            unacked_failure=survey.tags_failure,
        )
        if survey.tags is None:
            return found
        await self._learn(url, survey.tags)
        tally = self._deliveries.tally(survey.tags, survey.oldest, at)
        for queue, eta in survey.next_due.items():
            tally.next_due[queue] = min(eta, tally.next_due.get(queue, eta))
        return replace(
            found,
            unacked=tally.due,
            unacked_later=tally.later,
            next_due=tally.next_due,
            deliveries=tally.deliveries,
            taken_at=tally.taken_at,
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
            self._deliveries.forget()
            await self.close()
        return url

    async def _survey(self, url: RedisUrl, queues: Sequence[str], at: float) -> _Survey:
        places = [(queue, key) for queue in queues for key in self._layout.lists_of(queue)]
        commands: list[Command] = [("LLEN", key) for _, key in places]
        # Lists before tags: a message taken in between counts twice for one tick. The other way round
        # it would count not at all, and a busy pool could look idle.
        commands.append(("HLEN", self._layout.unacked_key))
        if few := self._messages_unacked is not None and self._messages_unacked <= TAGS_AT_ONCE:
            commands += self._ask_for_tags
        replies = await self._ask_again_if_stale(url, commands)
        answer, tags = replies[len(places)], replies[len(places) + 1 :]
        survey = _Survey(lengths=dict.fromkeys(queues, Count.exactly(0)))
        short: list[tuple[str, str, int]] = []
        for (queue, key), reply in zip(places, replies, strict=False):
            length = _natural(reply)
            survey.lengths[queue] += UNKNOWN if length is None else Count.exactly(length)
            if length is None:
                survey.failures[queue] = _failure(url, reply, key)
            elif length:
                short.append((queue, key, length))
        await self._look(url, survey, short, at)
        self._messages_unacked = _natural(answer)
        if self._messages_unacked is not None:
            if self._messages_unacked > TAGS_AT_ONCE:
                return survey
            if short or not few:
                tags = await self._ask(url, self._ask_for_tags)
            answer = tags[0]
        if isinstance(answer, list) and all(isinstance(tag, bytes) for tag in answer):
            survey.tags = answer
            survey.oldest = _scores(tags[1])
        else:
            survey.tags_failure = _failure(url, answer, self._layout.unacked_key)
        return survey

    @property
    def _ask_for_tags(self) -> list[Command]:
        index = self._layout.unacked_index_key
        return [("HKEYS", self._layout.unacked_key), ("ZRANGE", index, 0, AGES_AT_ONCE - 1, "WITHSCORES")]

    async def _look(
        self, url: RedisUrl, survey: _Survey, lists: Sequence[tuple[str, str, int]], at: float
    ) -> None:
        """Read short lists whole, for what is not due in them; what is not looked at counts as due."""
        wanted: list[tuple[str, str, int]] = []
        messages = size = 0
        for queue, key, length in lists:
            if length <= LIST_LOOKED_AT and messages + length <= MESSAGES_LOOKED_AT:
                messages += length
                wanted.append((queue, key, length))
        sizes = await self._ask(url, [("MEMORY", "USAGE", key) for _, key, _ in wanted])
        fitting: list[tuple[str, str, int]] = []
        for each, reply in zip(wanted, sizes, strict=True):
            if (used := _natural(reply)) is not None and size + used <= BYTES_AT_ONCE:
                size += used
                fitting.append(each)
        survey.unread = {queue for queue, key, length in lists if (queue, key, length) not in fitting}
        bodies = await self._ask(url, [("LRANGE", key, 0, LIST_LOOKED_AT) for _, key, _ in fitting])
        for (queue, _, length), found in zip(fitting, bodies, strict=True):
            if not isinstance(found, list) or len(found) > LIST_LOOKED_AT:
                survey.unread.add(queue)
                continue
            # These are the messages of now, and the tags are read after them.
            survey.lengths[queue] = survey.lengths[queue].less(length) + Count.exactly(len(found))
            etas = [eta for body in found if (eta := eta_in(body)) is not None and eta > at]
            if etas:
                survey.later[queue] = survey.later.get(queue, 0) + len(etas)
                survey.next_due[queue] = min(*etas, survey.next_due.get(queue, etas[0]))

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
        """One round trip, none for nothing. An error reply to one command is that command's reply."""
        if not commands:
            return []
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
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._deliveries.learn(lambda commands: self._ask(url, commands), tags)
        except (*_UNREACHABLE, RedisError):
            # What was not learnt leaves this tick's counts lower bounds; the next read says what failed.
            await self.close()
        except BaseException:
            await self.close()
            raise


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
