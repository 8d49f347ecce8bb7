"""Remote control and events over AMQP, as Celery's workers use them on RabbitMQ.

It owns what is peculiar to it: our queues belong to our connection and go with it, whoever ends it, and
their names are random, so that a predecessor whose end RabbitMQ has not noticed yet takes nothing away. The
exchanges are the workers': they are never declared here, lest a worker that wants another kind of exchange
be refused. Every command is confirmed, so a broker that hangs shows, and one of which no worker took notice
within some seconds is gone.

`scaler.workers.mailbox` speaks the protocol; `scaler.workers.over_redis` is the same for Redis.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from amqp.exceptions import NotFound
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.transport import pyamqp

from scaler.broker.url import AmqpUrl
from scaler.contract import OWN_PREFIX
from scaler.workers.link import Link

CONNECT_SECONDS: Final = 1.5
ANSWER_SECONDS: Final = 1.5
"""How long RabbitMQ may take to confirm a command. The workers' answers have the deadline of the call."""
HEARTBEAT_SECONDS: Final = 10
"""Two of these without a word from RabbitMQ, and it counts as gone; it thinks the same of us."""
KEPT_SECONDS: Final = 10
"""How long a command waits for a worker whose main process hangs."""
KEPT_EVENTS: Final = 10_000

FAILURES: Final = (KombuError, *pyamqp.Transport.connection_errors, *pyamqp.Transport.channel_errors)
NOBODY_LISTENS: Final = (NotFound,)
PUBLISHING: Final[Mapping[str, object]] = {
    "expiration": KEPT_SECONDS,
    "delivery_mode": "transient",
    "confirm_timeout": ANSWER_SECONDS,
}


def connect(_: Link, url: AmqpUrl) -> Any:
    connection = Connection(
        transport=pyamqp.Transport,
        hostname=url.host,
        port=url.port,
        virtual_host=url.vhost,
        userid=url.username,
        password=url.password,
        ssl=url.tls.amqp_options(url.host) if url.tls else False,
        connect_timeout=CONNECT_SECONDS,
        heartbeat=HEARTBEAT_SECONDS,
        transport_options={
            "confirm_publish": True,
            "write_timeout": ANSWER_SECONDS,
            "client_properties": {"connection_name": "celery-fleet-scaler"},
        },
    )
    # One try: who waits for how long before the next one is the caller's business.
    connection.ensure_connection(max_retries=0)
    connection.connection.sock.settimeout(ANSWER_SECONDS)
    return connection


def control_exchange(link: Link, _: Any) -> str:
    """Where commands are published to; there once a worker has come."""
    return f"{link.control_exchange}.pidbox"


def answers(link: Link, channel: Any) -> Queue:
    """The queue for answers, empty."""
    name = _own(link, "reply")
    queue = Queue(name, Exchange(""), name, channel, durable=False, exclusive=True, auto_delete=True)
    queue.declare()
    return queue


def leave(_: Queue) -> None:
    """It goes with the connection."""


def events(link: Link) -> Queue:
    exchange = Exchange(link.event_exchange, "topic", no_declare=True)
    return Queue(
        _own(link, "events"),
        exchange,
        "worker.#",
        durable=False,
        exclusive=True,
        auto_delete=True,
        max_length=KEPT_EVENTS,
    )


def keep_alive(connection: Any) -> None:
    """Send a heartbeat when it is time, and fail where none came for too long."""
    connection.heartbeat_check()


def _own(link: Link, use: str) -> str:
    return f"{OWN_PREFIX}{link.name}.{use}.{uuid.uuid4().hex}"
