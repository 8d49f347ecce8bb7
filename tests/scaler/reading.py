"""How the tests of the broker's reader publish, point and read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.workers.link import Link
from scaler.workers.mailbox import Mailbox
from tests.rabbitmq import Vhost


def point(url_file: Path, url: str) -> None:
    """Change the mounted Secret."""
    url_file.write_text(url)


def pointed_at(url_file: Path) -> str:
    """`host:port/database` of the test's redis-server."""
    return url_file.read_text().strip().removeprefix("redis://")


async def read(broker: BrokerByUrl, *queues: str) -> Backlog:
    return await broker.read(queues, time.time())


async def failure_of(broker: BrokerByUrl, *queues: str) -> BrokerFailure:
    with pytest.raises(BrokerFailure) as caught:
        await broker.read(queues, time.time())
    return caught.value


class RabbitFiles:
    """The mounted Secret, with what the scaler reads of it."""

    def __init__(self, folder: Path, vhost: Vhost, ca_file: Path | None = None) -> None:
        self.url, self.management = folder / "url", folder / "management-url"
        self.url.write_text(vhost.scaler_url)
        self.management.write_text(vhost.management_url)
        self.broker = BrokerByUrl(
            UrlFile(self.url, ca_file), Layout(), management=UrlFile(self.management, ca_file)
        )

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox(Link(url_file=UrlFile(self.url), name="test"))
