"""Asks Celery workers and hears their events by kombu, whichever broker is between.

It owns the protocol of Celery's remote control (kombu/pidbox.py) and of its events. Everything here
blocks, within its deadline: `scaler.workers.control` and `scaler.workers.heartbeats` give it threads. Nothing
is queued for a worker that is away: who still wants a command sends it again.

What it refuses: to retry for ever, as kombu's own Mailbox does where the broker is down; to accept
anything but JSON; to touch a message of the app.

Connections and queues are made in `scaler.workers.over_redis` and `scaler.workers.over_amqp`, each loaded
only where its broker is there. No other file imports kombu.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, Self, TypeVar, cast

from kombu.entity import Queue
from kombu.messaging import Consumer, Producer

from scaler.broker.url import AmqpUrl, BrokerUrl
from scaler.workers.link import Command, ControlUnavailable, Link

ANSWER_SECONDS: Final = 1.5
"""How long the broker may take for one command. The workers' answers have the deadline of the call."""
DRAIN_SECONDS: Final = 0.25
"""How long one look for messages blocks; the bound on how late a deadline or a close is noticed."""

_T = TypeVar("_T")
_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError)
"""What kombu lets through where bytes on a channel or in a list are not one of its messages."""


class Wire(Protocol):
    """What a broker has of its own; a module each. All raise one of FAILURES."""

    FAILURES: tuple[type[BaseException], ...]
    NOBODY_LISTENS: tuple[type[BaseException], ...]
    """Of those, what a command meets that no worker ever declared the exchange for."""
    PUBLISHING: Mapping[str, Any]
    """Options of each command."""

    def connect(self, link: Link, url: Any) -> Any: ...
    def control_exchange(self, link: Link, channel: Any) -> str: ...
    def answers(self, link: Link, channel: Any) -> Queue: ...
    def leave(self, answers: Queue) -> None: ...
    def events(self, link: Link) -> Queue: ...
    def keep_alive(self, connection: Any) -> None: ...


def wire_for(url: BrokerUrl) -> Wire:
    if isinstance(url, AmqpUrl):
        from scaler.workers import over_amqp

        return cast(Wire, over_amqp)
    from scaler.workers import over_redis

    return cast(Wire, over_redis)


class Mailbox:
    """Sends commands and collects answers; to be used by one thread at a time.

    It connects when first needed, and anew after a failure or where the file has another URL. Answers come
    through one queue, of which who is killed leaves nothing or what the next one of that name empties.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._url: BrokerUrl | None = None
        self._line: _Line | None = None

    def ask(self, commands: Sequence[Command], seconds: float) -> list[dict[str, object]]:
        """Each command's answers by node, once all have come or the time is over.

        A worker carries out the commands in their order. Raises ControlUnavailable.
        """
        nobody: list[dict[str, object]] = [{} for _ in commands]
        return self._with_line(lambda line: line.ask(commands, seconds), seconds, nobody)

    def tell(self, commands: Sequence[Command]) -> None:
        """Send without asking for an answer. Raises ControlUnavailable."""
        self._with_line(lambda line: line.tell(commands), 0, None)

    def close(self) -> None:
        """Leave nothing in the broker, if it can be reached."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _with_line(self, act: Callable[[_Line], _T], seconds: float, nobody: _T) -> _T:
        """What `act` returns, or `nobody` where no worker has ever listened to commands."""
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
            except wire_for(url).FAILURES as error:
                line, self._line = self._line, None
                if line is not None:
                    line.drop()
                if isinstance(error, wire_for(url).NOBODY_LISTENS):
                    return nobody
                # A connection from an earlier call may have died since; a new one says how things are.
                if stale and time.monotonic() <= deadline + ANSWER_SECONDS:
                    stale = False
                    continue
                raise ControlUnavailable(_sentence(url, error)) from error


class _Line:
    """One connection with the consumer of the answers. Raises what kombu raises."""

    def __init__(self, link: Link, url: BrokerUrl) -> None:
        self._answers: dict[str, dict[str, object]] = {}
        self._wire = wire_for(url)
        self._connection = self._wire.connect(link, url)
        try:
            channel = self._connection.channel()
            self._to_workers = self._wire.control_exchange(link, channel)
            self._queue = self._wire.answers(link, channel)
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
            exchange=self._to_workers,
            serializer="json",
            headers={"clock": 0, "expires": 0},
            retry=False,
            **self._wire.PUBLISHING,
        )

    def close(self) -> None:
        with suppress(*self._wire.FAILURES):
            self._wire.leave(self._queue)
        self.drop()

    def drop(self) -> None:
        _drop(self._wire, self._connection)

    def _take(self, body: object, message: Any) -> None:
        answers = self._answers.get(message.headers.get("ticket"))
        if answers is not None and isinstance(body, dict):
            answers.update(body)


class EventStream:
    """The events that workers send about themselves, from now on. Raises ControlUnavailable."""

    def __init__(self, link: Link) -> None:
        self.url = link.read_url()
        self._wire = wire_for(self.url)
        self._events: list[Mapping[str, object]] = []
        connection = None
        try:
            connection = self._connection = self._wire.connect(link, self.url)
            _consume(connection.channel(), self._wire.events(link), self._take)
            # On Redis subscribed only once drained: kombu sends PSUBSCRIBE when it first polls.
            _drain(connection, 0.01)
        except self._wire.FAILURES as error:
            if connection is not None:
                _drop(self._wire, connection)
            raise ControlUnavailable(_sentence(self.url, error)) from error

    def read(self) -> list[Mapping[str, object]]:
        """What has come, waiting for it for at most DRAIN_SECONDS."""
        self._events = []
        try:
            self._wire.keep_alive(self._connection)
            _drain(self._connection, DRAIN_SECONDS)
        except self._wire.FAILURES as error:
            raise ControlUnavailable(_sentence(self.url, error)) from error
        return self._events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _drop(self._wire, self._connection)

    def _take(self, body: object, _: object) -> None:
        # A worker started with `-E` sends several events as one list (celery/events/dispatcher.py).
        events = body if isinstance(body, list) else [body]
        self._events.extend(event for event in events if isinstance(event, dict))


def _drain(connection: Any, seconds: float) -> None:
    try:
        connection.drain_events(timeout=seconds)
    except TimeoutError:
        return
    except _MALFORMED:
        time.sleep(0.001)  # whatever keeps failing at once must not turn into a busy loop


def _drop(wire: Wire, connection: Any) -> None:
    failures: tuple[type[BaseException], ...] = (*wire.FAILURES, *_MALFORMED)
    try:
        connection.release()
    except failures:
        # One that cannot say goodbye is closed without.
        with suppress(*failures):
            connection.collect()


def _consume(channel: Any, queue: Queue, take: Callable[[Any, Any], None]) -> None:
    # What is not JSON is left out: from an app with another serializer, or from nobody's.
    options = {"no_ack": True, "accept": ["json"], "on_decode_error": lambda _, __: None}
    Consumer(channel, [queue], callbacks=[take], **options).consume()


def _sentence(url: BrokerUrl, error: BaseException) -> str:
    said = url.without_password(str(error))[:200] or f"no answer within {ANSWER_SECONDS:g} s"
    return f"workers cannot be asked through {url}: {said}"
