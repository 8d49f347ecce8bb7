"""Speaks kombu, and no other file does: commands to Celery workers, their answers, the events they send.

It owns the protocol of Celery's remote control (kombu/pidbox.py) and of its events. Everything here
blocks, within its deadline: `scaler.workers.control` and `scaler.workers.heartbeats` give it threads. Nothing
is queued for a worker that is away: who still wants a command sends it again.

What it refuses: to retry for ever, as kombu's own Mailbox does where the broker is down; to accept
anything but JSON; to touch a message of the app. A kombu consumer hands messages that wait for their
acknowledgement back to their queues once *its own* visibility timeout is over, so the keys of that book are
named apart here.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.messaging import Consumer, Producer
from kombu.transport import redis as kombu_redis

from scaler.broker.redis_url import RedisUrl
from scaler.workers.link import Command, ControlUnavailable, Link, tls_options

CONNECT_SECONDS: Final = 1.5
ANSWER_SECONDS: Final = 1.5
"""How long one command to the broker may take. The workers' answers have the deadline of the call."""
DRAIN_SECONDS: Final = 0.25
"""How long one look for messages blocks; the bound on how late a deadline or a close is noticed."""

_APPS_OPTIONS: Final = ("global_keyprefix", "fanout_prefix", "fanout_patterns", "sep")
"""Of the app's `broker_transport_options`, those that name channels and keys. No other is taken over."""
_OWN_OPTIONS: Final[Mapping[str, object]] = {
    "unacked_key": "celery-fleet.unacked",
    "unacked_index_key": "celery-fleet.unacked_index",
    "unacked_mutex_key": "celery-fleet.unacked_mutex",
    "unacked_restore_throttle": 10**9,
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_timeout": ANSWER_SECONDS,
    # A peer that vanished is noticed by the kernel, after 11 s: Redis sends a subscriber nothing when
    # nothing is published, so silence alone says nothing.
    "socket_keepalive": True,
    "socket_keepalive_options": {
        getattr(socket, name): value
        for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    },
    "health_check_interval": 0,
}

_FAILURES: Final = (
    KombuError,
    *kombu_redis.Transport.connection_errors,
    *kombu_redis.Transport.channel_errors,
)
_T = TypeVar("_T")
_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError)
"""What kombu lets through where bytes on a channel or in a list are not one of its messages."""


class Mailbox:
    """Sends commands and collects answers; to be used by one thread at a time.

    It connects when first needed, and anew after a failure or where the file has another URL. Answers
    come through one list, named by the link and not by a random number as in kombu's Mailbox: who is
    killed leaves at most the answers under way, in a list that the next one of that name empties.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._url: RedisUrl | None = None
        self._line: _Line | None = None

    def ask(self, commands: Sequence[Command], seconds: float) -> list[dict[str, object]]:
        """Each command's answers by node, once all have come or the time is over.

        A worker carries out the commands in their order. Raises ControlUnavailable.
        """
        return self._with_line(lambda line: line.ask(commands, seconds), seconds)

    def tell(self, commands: Sequence[Command]) -> None:
        """Send without asking for an answer. Raises ControlUnavailable."""
        self._with_line(lambda line: line.tell(commands), 0)

    def close(self) -> None:
        """Leave nothing in the broker, if it can be reached."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _with_line(self, act: Callable[[_Line], _T], seconds: float) -> _T:
        url = self._link.read_url()
        if url != self._url:
            self.close()
            self._url = url
        deadline = time.monotonic() + seconds
        stale = self._line is not None
        while True:
            try:
                if self._line is None:
                    self._line = _Line(self._link, url)
                return act(self._line)
            except _FAILURES as error:
                line, self._line = self._line, None
                if line is not None:
                    line.drop()
                # A connection from an earlier call may have died since; a new one says how things are.
                if stale and time.monotonic() <= deadline + ANSWER_SECONDS:
                    stale = False
                    continue
                raise ControlUnavailable(_sentence(url, error)) from error


class _Line:
    """One connection with the consumer of the answers. Raises what kombu raises."""

    def __init__(self, link: Link, url: RedisUrl) -> None:
        self._answers: dict[str, dict[str, object]] = {}
        self._connection = _connect(link, url)
        try:
            channel = self._connection.channel()
            exchange = f"{link.control_exchange}.pidbox"
            # Declaring writes nothing to Redis; without it kombu takes the exchange for a direct one.
            self._to_workers = Exchange(exchange, "fanout", channel, durable=False, delivery_mode="transient")
            self._to_workers.declare()
            # The default exchange needs no binding, of which kombu's Mailbox leaves one per killed caller.
            name = f"celery-fleet.{link.name}.reply.{exchange}"
            self._queue = Queue(name, Exchange(""), name, channel, durable=False, auto_delete=True)
            self._queue.declare()
            self._queue.purge()
            self._producer = Producer(channel, auto_declare=False)
            _consume(channel, self._queue, self._take)
        except BaseException:
            self.drop()
            raise

    def ask(self, commands: Sequence[Command], seconds: float) -> list[dict[str, object]]:
        deadline = time.monotonic() + seconds
        tickets = [uuid.uuid4().hex for _ in commands]
        self._answers = {ticket: {} for ticket in tickets}
        for ticket, command in zip(tickets, commands, strict=True):
            self._send(command, ticket)
        asked = list(zip(tickets, commands, strict=True))
        while not all(command.nodes <= self._answers[ticket].keys() for ticket, command in asked):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            _drain(self._connection, min(left, DRAIN_SECONDS))
        return [self._answers[ticket] for ticket in tickets]

    def tell(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self._send(command, None)

    def _send(self, command: Command, ticket: str | None) -> None:
        if not command.nodes:
            return
        message: dict[str, object] = {
            "method": command.method,
            "arguments": dict(command.arguments),
            "destination": sorted(command.nodes),
            "pattern": None,
            "matcher": None,
        }
        if ticket is not None:
            message["ticket"] = ticket
            message["reply_to"] = {"exchange": "", "routing_key": self._queue.name}
        self._producer.publish(
            message,
            exchange=self._to_workers.name,
            serializer="json",
            headers={"clock": 0, "expires": 0},
            retry=False,
        )

    def close(self) -> None:
        with suppress(*_FAILURES):
            self._queue.delete()
        self.drop()

    def drop(self) -> None:
        _drop(self._connection)

    def _take(self, body: object, message: Any) -> None:
        answers = self._answers.get(message.headers.get("ticket"))
        if answers is not None and isinstance(body, dict):
            answers.update(body)


class EventStream:
    """The events that workers send about themselves, from now on. Raises ControlUnavailable."""

    def __init__(self, link: Link) -> None:
        self.url = link.read_url()
        self._events: list[Mapping[str, object]] = []
        connection = None
        try:
            connection = self._connection = _connect(link, self.url)
            exchange = Exchange(link.event_exchange, "fanout", durable=False)
            name = f"{link.event_exchange}.celery-fleet.{link.name}"
            queue = Queue(name, exchange, "worker.#", durable=False, auto_delete=True)
            _consume(connection.channel(), queue, self._take)
            # Subscribed only once drained: kombu sends PSUBSCRIBE when it first polls.
            _drain(connection, 0.01)
        except _FAILURES as error:
            if connection is not None:
                _drop(connection)
            raise ControlUnavailable(_sentence(self.url, error)) from error

    def read(self) -> list[Mapping[str, object]]:
        """What has come, waiting for it for at most DRAIN_SECONDS."""
        self._events = []
        try:
            _drain(self._connection, DRAIN_SECONDS)
        except _FAILURES as error:
            raise ControlUnavailable(_sentence(self.url, error)) from error
        return self._events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _drop(self._connection)

    def _take(self, body: object, _: object) -> None:
        # A worker started with `-E` sends several events as one list (celery/events/dispatcher.py).
        events = body if isinstance(body, list) else [body]
        self._events.extend(event for event in events if isinstance(event, dict))


class _RedisConnection(kombu_redis.Channel.connection_class):  # type: ignore[valid-type,misc]  # untyped
    def __init__(self, **options: Any) -> None:
        # RESP3's HELLO is refused by Redis before 6 (redis/redis-py#4052).
        super().__init__(**options | {"protocol": 2})


class _RedisSSLConnection(kombu_redis.Channel.connection_class_ssl):  # type: ignore[valid-type,misc]  # untyped
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"protocol": 2})


class _Channel(kombu_redis.Channel):
    connection_class = _RedisConnection  # type: ignore[assignment]  # untyped
    connection_class_ssl = _RedisSSLConnection  # type: ignore[assignment]  # untyped


class _Transport(kombu_redis.Transport):
    Channel = _Channel


def _connect(link: Link, url: RedisUrl) -> Any:
    connection = Connection(
        transport=_Transport,
        hostname=url.host,
        port=url.port,
        virtual_host=str(url.database),
        userid=url.username,
        password=url.password,
        ssl=tls_options(url) if url.tls else False,
        transport_options={
            **{name: value for name, value in link.transport_options.items() if name in _APPS_OPTIONS},
            **_OWN_OPTIONS,
        },
    )
    # One try: who waits for how long before the next one is the caller's business.
    return connection.ensure_connection(max_retries=0)


def _drain(connection: Any, seconds: float) -> None:
    try:
        connection.drain_events(timeout=seconds)
    except TimeoutError:
        return
    except _MALFORMED:
        time.sleep(0.001)  # whatever keeps failing at once must not turn into a busy loop


def _drop(connection: Any) -> None:
    with suppress(*_FAILURES, *_MALFORMED):
        connection.release()


def _consume(channel: Any, queue: Queue, take: Callable[[Any, Any], None]) -> None:
    # What is not JSON is left out: from an app with another serializer, or from nobody's.
    options = {"no_ack": True, "accept": ["json"], "on_decode_error": lambda _, __: None}
    Consumer(channel, [queue], callbacks=[take], **options).consume()


def _sentence(url: RedisUrl, error: BaseException) -> str:
    said = url.without_password(str(error))[:200] or f"no answer within {ANSWER_SECONDS:g} s"
    return f"workers cannot be asked through {url}: {said}"
