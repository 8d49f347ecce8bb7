"""Remote control and events over kombu's Redis transport, by address or by Sentinels.

It owns what is peculiar to it: everything is a list, a key or a channel that outlives its maker, so the
queue for answers has one name and is emptied by the next of that name. A kombu consumer hands messages that
wait for their acknowledgement back to their queues once *its own* visibility timeout is over; this one must
not, and the scaler's user may not (`scaler.contract.redis_rights`).

`scaler.workers.mailbox` speaks the protocol; `scaler.workers.over_amqp` is the same for RabbitMQ.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.transport import redis as kombu_redis

from scaler.broker.url import RedisUrl, SentinelUrl
from scaler.workers.link import Link

CONNECT_SECONDS: Final = 1.5
ANSWER_SECONDS: Final = 1.5
"""How long one command to the broker may take. The workers' answers have the deadline of the call."""
SENTINEL_SECONDS: Final = 0.4

FAILURES: Final = (
    KombuError,
    *kombu_redis.Transport.connection_errors,
    *kombu_redis.Transport.channel_errors,
)
NOBODY_LISTENS: Final[tuple[type[BaseException], ...]] = ()
PUBLISHING: Final[Mapping[str, object]] = {}

_APPS_OPTIONS: Final = (
    "global_keyprefix",
    "fanout_prefix",
    "fanout_patterns",
    "sep",
    "master_name",
    "min_other_sentinels",
    "sentinel_fanout_compat",
)
"""Of the app's `broker_transport_options`, those that name channels, keys and servers."""
_PATIENCE: Final[Mapping[str, object]] = {
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
}
_OWN_OPTIONS: Final[Mapping[str, object]] = {
    "health_check_interval": 0,
    **_PATIENCE,
}


def connect(link: Link, url: RedisUrl | SentinelUrl) -> Any:
    options: dict[str, object] = {
        **{name: value for name, value in link.transport_options.items() if name in _APPS_OPTIONS},
        **_OWN_OPTIONS,
    }
    where: dict[str, Any]
    if isinstance(url, SentinelUrl):
        brief = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
        options["sentinel_kwargs"] = {**(link.transport_options.get("sentinel_kwargs") or {}), **brief}
        (host, port), names = url.sentinels[0], [f"sentinel://{host}:{port}" for host, port in url.sentinels]
        where = {"transport": _SentinelTransport, "hostname": host, "port": port, "alternates": names}
    else:
        where = {"transport": _Transport, "hostname": url.host, "port": url.port}
    connection = Connection(
        **where,
        virtual_host=str(url.database),
        userid=url.username,
        password=url.password,
        ssl=url.tls.redis_options() if url.tls else False,
        transport_options=options,
    )
    # One try: who waits for how long before the next one is the caller's business.
    return connection.ensure_connection(max_retries=0)


def control_exchange(link: Link, channel: Any) -> str:
    """Where commands are published to."""
    # Declaring writes nothing to Redis; without it kombu takes the exchange for a direct one.
    exchange = Exchange(
        f"{link.control_exchange}.pidbox", "fanout", channel, durable=False, delivery_mode="transient"
    )
    exchange.declare()
    return str(exchange.name)


def answers(link: Link, channel: Any) -> Queue:
    """The queue for answers, empty."""
    # The default exchange needs no binding, of which kombu's Mailbox leaves one per killed caller.
    name = f"celery-fleet.{link.name}.reply.{link.control_exchange}.pidbox"
    queue = Queue(name, Exchange(""), name, channel, durable=False, auto_delete=True)
    queue.declare()
    queue.purge()
    return queue


def leave(answers: Queue) -> None:
    """Leave nothing of the queue for answers."""
    answers.delete()


def events(link: Link) -> Queue:
    exchange = Exchange(link.event_exchange, "fanout", durable=False)
    name = f"{link.event_exchange}.celery-fleet.{link.name}"
    return Queue(name, exchange, "worker.#", durable=False, auto_delete=True)


def keep_alive(_: Any) -> None:
    """The kernel does."""


_CONNECTION: Final[dict[str, object]] = {
    # RESP3's HELLO is refused by Redis before 6 (redis/redis-py#4052).
    "protocol": 2,
    # Each connection would tell its library's name, which the scaler's user need not be allowed to.
    "driver_info": None,
}


class _RedisConnection(kombu_redis.Channel.connection_class):  # type: ignore[valid-type,misc]  # untyped
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | _CONNECTION)


class _RedisSSLConnection(kombu_redis.Channel.connection_class_ssl):  # type: ignore[valid-type,misc]  # untyped
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | _CONNECTION)


class _MasterConnection(kombu_redis.SentinelChannel.connection_class):  # type: ignore[valid-type,misc]  # untyped
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | _CONNECTION)


class _MasterSSLConnection(kombu_redis.SentinelChannel.connection_class_ssl):  # type: ignore[valid-type,misc]  # untyped
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | _CONNECTION)


class _NoBook(kombu_redis.QoS):
    def restore_visible(self, *_: object, **__: object) -> None:
        """Nothing of ours waits for an acknowledgement, and what is the app's is left alone."""


class _Channel(kombu_redis.Channel):
    QoS = _NoBook
    connection_class = _RedisConnection  # type: ignore[assignment]  # untyped
    connection_class_ssl = _RedisSSLConnection  # type: ignore[assignment]  # untyped


class _Transport(kombu_redis.Transport):
    Channel = _Channel


class _SentinelChannel(kombu_redis.SentinelChannel):
    QoS = _NoBook
    connection_class = _MasterConnection
    connection_class_ssl = _MasterSSLConnection


class _SentinelTransport(kombu_redis.SentinelTransport):
    Channel = _SentinelChannel
