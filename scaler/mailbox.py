"""Speaks kombu, and no other file does: commands to Celery workers, their answers, the events they send.

It owns two connections' worth of protocol: Celery's remote control (kombu/pidbox.py) and its events.
Everything here blocks, each call within its deadline; `scaler.control` and `scaler.heartbeats` give it
threads. Commands are sent again by whoever still wants them: nothing is queued for a worker that is away.

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

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import KombuError
from kombu.transport import redis as kombu_redis

from scaler.link import Command, ControlUnavailable, Link
from scaler.redis_url import RedisUrl

CONNECT_SECONDS: Final = 1.5
ANSWER_SECONDS: Final = 1.5
"""How long one command to the broker may take. The workers' answers have the deadline of the call."""
DRAIN_SECONDS: Final = 0.25
"""How long one look for messages blocks; the bound on how late a deadline or a close is noticed."""

_NAMING_OPTIONS: Final = ("global_keyprefix", "fanout_prefix", "fanout_patterns", "sep")
"""Of the app's `broker_transport_options`, those that name channels and keys. No other is taken over."""

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
    come through one list, named by the caller and not by a random number as in kombu's Mailbox: a
    scaler that is killed leaves at most the answers that were under way, under a name that its
    successor empties.
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
                self._drop()
                # A connection from an earlier call may have died since; a new one says how things are.
                if stale and time.monotonic() <= deadline + ANSWER_SECONDS:
                    stale = False
                    continue
                raise ControlUnavailable(_sentence(url, error)) from error

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.drop()


class _Line:
    """One connection with the consumer of the answers. Raises what kombu raises."""

    def __init__(self, link: Link, url: RedisUrl) -> None:
        self._connection = _connect(link, url)
        self._channel = self._connection.channel()
        self._to_workers = Exchange(
            f"{link.control_exchange}.pidbox", type="fanout", durable=False, delivery_mode="transient"
        )
        # Declaring writes nothing to Redis; without it kombu takes the exchange for a direct one.
        self._to_workers(self._channel).declare()
        # The default exchange needs no binding, of which kombu's Mailbox leaves one per killed caller.
        name = f"celery-fleet.{link.name}.reply.{link.control_exchange}.pidbox"
        self._queue = Queue(name, Exchange(""), routing_key=name, durable=False, auto_delete=True)(
            self._channel
        )
        self._queue.declare()
        self._queue.purge()
        self._producer = Producer(self._channel, auto_declare=False)
        self._answers: dict[str, dict[str, object]] = {}
        Consumer(
            self._channel,
            [self._queue],
            no_ack=True,
            accept=["json"],
            callbacks=[self._take],
            on_decode_error=_ignore,
        ).consume()

    def ask(self, commands: Sequence[Command], seconds: float) -> list[dict[str, object]]:
        deadline = time.monotonic() + seconds
        tickets = [uuid.uuid4().hex for _ in commands]
        self._answers = {ticket: {} for ticket in tickets}
        for ticket, command in zip(tickets, commands, strict=True):
            self._send(command, ticket)
        asked = list(zip(tickets, commands, strict=True))
        while any(self._answers[ticket].keys() < command.nodes for ticket, command in asked):
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
            queue = Queue(
                f"{link.event_exchange}.celery-fleet.{link.name}",
                Exchange(link.event_exchange, type="fanout", durable=False),
                routing_key="worker.#",
                durable=False,
                auto_delete=True,
            )
            Consumer(
                connection.channel(),
                [queue],
                no_ack=True,
                accept=["json"],
                callbacks=[self._take],
                on_decode_error=_ignore,
            ).consume()
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


class _RedisConnection(kombu_redis.Channel.connection_class):  # type: ignore[misc]  # untyped
    def __init__(self, **options: Any) -> None:
        # RESP3's HELLO is refused by Redis before 6 (redis/redis-py#4052).
        super().__init__(**options | {"protocol": 2})


class _RedisSSLConnection(kombu_redis.Channel.connection_class_ssl):  # type: ignore[misc]  # untyped
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"protocol": 2})


class _Channel(kombu_redis.Channel):  # type: ignore[misc]  # untyped
    connection_class = _RedisConnection
    connection_class_ssl = _RedisSSLConnection
    unacked_key = "celery-fleet.unacked"
    unacked_index_key = "celery-fleet.unacked_index"
    unacked_mutex_key = "celery-fleet.unacked_mutex"
    unacked_restore_throttle = 10**9
    socket_connect_timeout = CONNECT_SECONDS
    socket_timeout = ANSWER_SECONDS
    socket_keepalive = True
    # A peer that vanished without a word is noticed after 11 s, by the kernel: Redis sends nothing to a
    # subscriber when nothing is published, so silence alone says nothing.
    socket_keepalive_options = {  # noqa: RUF012  # kombu's shape
        getattr(socket, name): value
        for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    }
    health_check_interval = 0


class _Transport(kombu_redis.Transport):  # type: ignore[misc]  # untyped
    Channel = _Channel


def _connect(link: Link, url: RedisUrl) -> Any:
    connection = Connection(
        transport=_Transport,
        hostname=url.host,
        port=url.port,
        virtual_host=str(url.database),
        userid=url.username,
        password=url.password,
        ssl=_tls(url) if url.tls else False,
        transport_options={
            name: link.transport_options[name] for name in _NAMING_OPTIONS if name in link.transport_options
        },
    )
    # One try: who waits for how long before the next one is the caller's business.
    return connection.ensure_connection(max_retries=0)


def _tls(url: RedisUrl) -> dict[str, object]:
    # kombu takes CERT_REQUIRED and required alike (kombu/utils/url.py).
    verify = url.options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    files = {name: url.options[name] for name in _TLS_FILES if name in url.options}
    return {"ssl_cert_reqs": verify, "ssl_check_hostname": verify == "required", **files}


_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _drain(connection: Any, seconds: float) -> None:
    with suppress(TimeoutError, *_MALFORMED):
        connection.drain_events(timeout=seconds)


def _drop(connection: Any) -> None:
    with suppress(*_FAILURES, *_MALFORMED):
        connection.release()


def _ignore(_: object, __: object) -> None:
    """A message in another serialization is not for us, or the app's workers cannot be asked at all."""


def _sentence(url: RedisUrl, error: BaseException) -> str:
    said = url.without_password(str(error))[:200] or f"no answer within {ANSWER_SECONDS:g} s"
    return f"workers cannot be asked through {url}: {said}"
