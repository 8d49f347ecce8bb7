"""One connection to Redis, by its address or by its Sentinels: the only file that imports a Redis client.

It owns how it is made, what one round trip over it is, that it follows the master that the Sentinels name,
and what each failure means. It reads nothing by itself: the questions are those of
`scaler.broker.redis_broker`, which also says how long an answer may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
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

from scaler.broker.backlog import BrokerFailure
from scaler.broker.redis_layout import Layout, SentinelLogin
from scaler.broker.trust import distrust
from scaler.broker.unacked import Command
from scaler.broker.url import Login, RedisUrl, SentinelUrl, Tls
from scaler.contract import Ready

ANSWER_SECONDS: Final = 1.5
"""How long one read may take, connecting included. Longer hides an outage, shorter invents one."""
SENTINEL_SECONDS: Final = 0.4
"""How long one of the Sentinels may take: with three of them two may hang."""

_NOT_READY: Final = (BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
_NOT_READY_WORDS: Final = ("MISCONF", "BUSY", "OOM", "max number of clients")
_REFUSED: Final = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
)
_UNREACHABLE: Final = (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError)


class NoMaster(Exception):  # noqa: N818  # what the Sentinels said
    """The Sentinels answer, and name no server that is the master."""


FAILURES: Final = (*_UNREACHABLE, RedisError, NoMaster)
"""What any call of a `RedisConnection` may raise; `failure` says what it means."""
LOST: Final = RedisConnectionError
"""Raised where the connection was there and is gone."""


class RedisConnection:
    """Made when first needed, and anew after `close`, which whoever meets a failure calls."""

    def __init__(self, url: RedisUrl | SentinelUrl, layout: Layout) -> None:
        self._url = url
        self._login = layout.sentinel
        self._connection: Connection | None = None
        self._sentinel: Connection | None = None
        self._master: tuple[str, int] | None = None

    @property
    def open(self) -> bool:
        return self._connection is not None

    async def follow(self) -> None:
        """Ask the Sentinels, where there are some, who is the master now: a new one gets a new connection.

        An old master that was cut off takes itself for one for a while, so its own word is not enough.
        """
        if isinstance(self._url, RedisUrl):
            return
        master = await self._named_master(self._url, self._login)
        if master != self._master:
            await self._hang_up()
            self._master = master

    async def ask(
        self, commands: Sequence[Command], before: Sequence[bytes] = (), more: int = 0
    ) -> list[Any]:
        """One round trip. An error reply to one command is that command's reply.

        `before` are `more` commands that `pack` made, to be asked first.
        """
        connection = await self._connected()
        await connection.send_packed_command([*before, *self.pack(commands)], check_health=False)
        return [await _reply(connection) for _ in range(more + len(commands))]

    def pack(self, commands: Sequence[Command]) -> list[bytes]:
        return list(_PACKER.pack_commands(commands))

    async def close(self) -> None:
        await self._hang_up()
        self._master = None
        sentinel, self._sentinel = self._sentinel, None
        await _disconnect(sentinel)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        await _disconnect(connection)

    async def _connected(self) -> Connection:
        if self._connection is None:
            if isinstance(self._url, RedisUrl):
                host, port = self._url.host, self._url.port
            else:
                if self._master is None:
                    await self.follow()
                assert self._master is not None  # noqa: S101  # `follow` names one or raises
                host, port = self._master
            connection = self._connection = _connection(
                host, port, self._url, self._url.tls, self._url.database
            )
            await connection.connect()
            if isinstance(self._url, SentinelUrl):
                await _must_be_master(connection, f"{host}:{port}")
        return self._connection

    async def _named_master(self, url: SentinelUrl, login: SentinelLogin) -> tuple[str, int]:
        """By the first Sentinel that answers, the one that did last before the others."""
        said: Exception = RedisConnectionError("no Sentinel answers")
        for host, port in (*([("", 0)] if self._sentinel else ()), *url.sentinels):
            try:
                async with asyncio.timeout(SENTINEL_SECONDS):
                    if host:
                        self._sentinel = _connection(host, port, login.login, url.tls if login.tls else None)
                        await self._sentinel.connect()
                    return await _ask_for_master(self._sentinel, login.master)
            except FAILURES as error:
                said = error
                sentinel, self._sentinel = self._sentinel, None
                await _disconnect(sentinel)
        raise said


async def _ask_for_master(sentinel: Connection | None, name: str) -> tuple[str, int]:
    assert sentinel is not None  # noqa: S101
    await sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
    match await sentinel.read_response():
        case [bytes(host), bytes(port)]:
            return host.decode(), int(port)
    raise NoMaster(f"they know no master named {name!r}")


async def _must_be_master(connection: Connection, where: str) -> None:
    # As the guidelines for clients of Sentinel ask (redis.io, "Sentinel clients", step 3).
    await connection.send_command("ROLE")
    role = await connection.read_response()
    if not isinstance(role, list) or not role or role[0] != b"master":
        raise NoMaster(f"{where} is named as the master and is none yet")


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def _disconnect(connection: Connection | None) -> None:
    if connection is not None:
        with suppress(RedisError, OSError):
            await connection.disconnect(nowait=True)


def _connection(host: str, port: int, login: Login, tls: Tls | None, database: int = 0) -> Connection:
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "db": database,
        "username": login.username,
        "password": login.password,
        # None here, for one deadline around a whole read costs a third of one around each of 4,000 replies.
        "socket_timeout": None,
        "socket_connect_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        # RESP3's HELLO is refused by Redis before 6 (redis/redis-py#4052).
        "protocol": 2,
        "driver_info": None,
    }
    if tls is None:
        return Connection(**options)
    return SSLConnection(**options, **tls.redis_options())


_PACKER: Final = _connection("", 0, Login(), None)
"""Turns commands into bytes, which needs no server."""


def failure(url: RedisUrl | SentinelUrl, answer: object, key: str = "") -> BrokerFailure:
    """What an exception, or a reply that should have been something else, means."""
    where = f"{url}, key {key!r}," if key else str(url)
    said = url.without_password(str(answer))[:200]
    if isinstance(answer, Exception) and (found := distrust(where, answer)) is not None:
        return found
    if isinstance(answer, NoPermissionError):
        sentence = (
            f"{where} does not allow the scaler's user what it needs (redis_rights in scaler/contract.py)"
        )
        return BrokerFailure(Ready.BROKER_REFUSED, f"{sentence}: {said}")
    if isinstance(answer, _REFUSED):
        sentence = f"{where} refuses the scaler's credentials: {said}; is the Secret's password the server's?"
        return BrokerFailure(Ready.BROKER_REFUSED, sentence)
    if isinstance(answer, NoMaster):
        return BrokerFailure(Ready.BROKER_NOT_READY, f"{where} has no master: {said}")
    if isinstance(answer, _NOT_READY) or said.startswith(_NOT_READY_WORDS):
        return BrokerFailure(Ready.BROKER_NOT_READY, f"{where} is not ready: {said}")
    if isinstance(answer, _UNREACHABLE) and not isinstance(answer, InvalidResponse):
        said = said or f"no answer within {ANSWER_SECONDS:g} s"
        return BrokerFailure(Ready.BROKER_UNREACHABLE, f"{where} cannot be reached: {said}")
    return BrokerFailure(Ready.BROKER_UNREADABLE, f"{where} gave an answer that is of no use: {said}")
