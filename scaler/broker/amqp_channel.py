"""Asks RabbitMQ over AMQP how long queues are: the only file that imports py-amqp.

It owns one connection, the thread in which it blocks, and what its failures mean. A passive declare says how
many messages are ready at this moment, and nothing of those that workers hold; for a queue that is not there
RabbitMQ closes the channel, and notes it in its log. Nothing is declared, consumed or published.

`scaler.broker.rabbitmq_broker` asks it for the queues of which the management API's figure is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import amqp
from amqp import exceptions

from scaler.broker.backlog import BrokerFailure
from scaler.broker.trust import distrust
from scaler.broker.url import AmqpUrl
from scaler.contract import Ready

ANSWER_SECONDS: Final = 1.5
"""How long the broker may be silent, at each step of connecting too."""
CALL_SECONDS: Final = 3.0
"""How long all questions of a tick may take."""
HEARTBEAT_SECONDS: Final = 60
"""The server ends a connection that is silent for two of these; ours is used on every tick."""

_FAILURES: Final = (*amqp.Connection.connection_errors, *amqp.Connection.channel_errors)


@dataclass(frozen=True, slots=True)
class Declared:
    ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    failure: BrokerFailure
    forbidden: bool = False
    """The user may not ask for this queue, and can do without."""


Answer = Declared | Unanswered | None
"""None where the broker says that there is no such queue."""


class AmqpChannel:
    def __init__(self, url: AmqpUrl) -> None:
        self._url = url
        self._connection: Any = None
        self._channel: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="amqp")
        self._asking: asyncio.Future[Any] | None = None

    async def lengths(self, queues: Collection[str]) -> Mapping[str, Answer]:
        """What each queue is said to hold.

        With no queue it is only seen whether the broker answers. Raises BrokerFailure.
        """
        if self._asking is not None and not self._asking.done():
            raise self._unreachable("the last question is still not answered")
        loop = asyncio.get_running_loop()
        self._asking = asking = loop.run_in_executor(self._thread, self._lengths, tuple(queues))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await asyncio.shield(asking)
        except TimeoutError:
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise self._unreachable(f"no answer within {CALL_SECONDS:g} s") from None

    async def close(self) -> None:
        """Say goodbye, within a second."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._goodbye)
        self._thread.shutdown(wait=False)
        await asyncio.wait({closing}, timeout=1.0)

    def _lengths(self, queues: tuple[str, ...]) -> dict[str, Answer]:
        stale = self._connection is not None
        while True:
            try:
                self._connect()
                if not queues:
                    self._channel.basic_qos(0, 1, False)
                return {queue: self._declared(queue) for queue in queues}
            except _FAILURES as error:
                self._drop()
                # A connection from an earlier tick may have died since; a new one says how things are.
                if not stale:
                    raise self._failure(error) from error
                stale = False
            except BaseException:
                self._drop()
                raise

    def _declared(self, queue: str) -> Answer:
        # py-amqp opens a channel again that an error has closed.
        try:
            found = self._channel.queue_declare(queue, passive=True)
        except exceptions.NotFound:
            return None
        except exceptions.ChannelError as error:
            return Unanswered(self._failure(error, queue), isinstance(error, exceptions.AccessRefused))
        return Declared(found.message_count, found.consumer_count)

    def _connect(self) -> None:
        if self._connection is None:
            url = self._url
            self._connection = amqp.Connection(
                host=f"{url.host}:{url.port}",
                userid=url.username,
                password=url.password,
                virtual_host=url.vhost,
                ssl=url.tls.amqp_options(url.host) if url.tls else False,
                connect_timeout=ANSWER_SECONDS,
                write_timeout=ANSWER_SECONDS,
                heartbeat=HEARTBEAT_SECONDS,
                client_properties={"connection_name": "celery-fleet-scaler"},
            )
            self._connection.connect()
            self._connection.sock.settimeout(ANSWER_SECONDS)
            self._channel = self._connection.channel()

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(*_FAILURES, AttributeError):
                connection.collect()

    def _goodbye(self) -> None:
        if self._connection is not None:
            with suppress(*_FAILURES, AttributeError):
                self._connection.close()
        self._drop()

    def _unreachable(self, why: str) -> BrokerFailure:
        return BrokerFailure(Ready.BROKER_UNREACHABLE, f"{self._url} cannot be reached: {why}")

    def _failure(self, error: BaseException, queue: str = "") -> BrokerFailure:
        where, said = str(self._url), self._url.without_password(_words(error))
        if (found := distrust(where, error)) is not None:
            return found
        if queue:
            reason = (
                Ready.BROKER_REFUSED
                if isinstance(error, exceptions.AccessRefused)
                else Ready.BROKER_UNREADABLE
            )
            return BrokerFailure(reason, f"{where}, queue {queue!r}, cannot be looked at: {said}")
        if isinstance(error, exceptions.AccessRefused):
            sentence = f"{where} refuses the scaler's user: {said}; is the Secret's password the server's?"
            return BrokerFailure(Ready.BROKER_REFUSED, sentence)
        if isinstance(error, exceptions.NotAllowed):
            if "not found" in said:
                sentence = f"{where} does not exist: {said}; make it, or correct the URL's path"
                return BrokerFailure(Ready.VHOST_NOT_FOUND, sentence)
            sentence = f"{where} is closed to the scaler's user: {said}; give it rights there"
            return BrokerFailure(Ready.BROKER_REFUSED, sentence)
        if isinstance(
            error, exceptions.ConnectionForced | exceptions.InternalError | exceptions.ResourceError
        ):
            return BrokerFailure(Ready.BROKER_NOT_READY, f"{where} is not ready: {said}")
        if isinstance(error, exceptions.AMQPError) and error.code:
            return BrokerFailure(Ready.BROKER_UNREADABLE, f"{where} gave an answer of no use: {said}")
        return self._unreachable(said or f"no answer within {ANSWER_SECONDS:g} s")


def _words(error: BaseException) -> str:
    """RabbitMQ's own sentence where there is one: py-amqp's has the method's number around it."""
    said = error.reply_text if isinstance(error, exceptions.AMQPError) else None
    return str(said or error)[:200]
