"""The brokers that tests of remote control, of heartbeats and of the demand run on, each as it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp
import pytest
from redis import Redis

from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from tests.conftest import RedisServer
from tests.rabbitmq import Vhost

# Without confirmation a message that was sent may not be there yet, and what a test counts is no fact.
CLASSIC = {"broker_transport_options": {"confirm_publish": True}}
QUORUM = {**CLASSIC, "task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"}

everywhere = pytest.mark.parametrize(
    "place",
    ["redis", pytest.param("classic", marks=pytest.mark.slow), "quorum"],
    indirect=True,
)
"""A test runs on Redis and on RabbitMQ with quorum queues; with classic ones where there is time."""

everywhere_with_every_celery = pytest.mark.parametrize(
    ("place", "celery_python"),
    [
        ("redis", "newest"),
        ("redis", "oldest"),
        pytest.param("classic", "newest", marks=pytest.mark.slow),
        # Not with the oldest: Celery 5.3 declares queues for remote control that RabbitMQ 4.3 forbids.
        ("quorum", "newest"),
    ],
    indirect=True,
)
"""The ends of the range of Celery, too; docs/decisions/0010-celery-versions.md has those in between."""


@dataclass(slots=True, kw_only=True)
class Place:
    """A broker with nothing in it, as an app and as the scaler reach it."""

    kind: str
    url: str
    scaler_url: str
    queued: Callable[[str], int]
    """Messages in a queue that no worker has."""
    restart: Callable[[], None]
    stop: Callable[[], None]
    start: Callable[[], None]
    management_url: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the app."""

    def url_file(self, folder: Path) -> UrlFile:
        path = folder / "url"
        path.write_text(f"{self.scaler_url}\n")
        return UrlFile(path)

    def reader(self, folder: Path) -> BrokerByUrl:
        management = folder / "management-url"
        if self.management_url:
            management.write_text(self.management_url)
        return BrokerByUrl(self.url_file(folder), Layout(), UrlFile(management))


def on_redis(server: RedisServer) -> Place:
    def queued(queue: str) -> int:
        with Redis.from_url(server.url) as client:
            return int(client.llen(queue))

    def restart() -> None:
        server.stop()
        server.start()

    return Place(
        kind="redis",
        url=server.url,
        scaler_url=server.url,
        queued=queued,
        restart=restart,
        stop=server.stop,
        start=server.start,
    )


def on_rabbitmq(vhost: Vhost, kind: str) -> Place:
    return Place(
        kind=kind,
        url=vhost.url,
        scaler_url=vhost.scaler_url,
        management_url=vhost.management_url,
        queued=lambda queue: ready(vhost, queue),
        restart=vhost.server.restart,
        stop=vhost.server.stop,
        start=vhost.server.start,
        settings=QUORUM if kind == "quorum" else CLASSIC,
    )


def ready(vhost: Vhost, queue: str) -> int:
    with amqp.Connection(
        host=f"127.0.0.1:{vhost.server.ports['amqp']}",
        userid="admin",
        password="admin",
        virtual_host=vhost.name,
    ) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).message_count)
