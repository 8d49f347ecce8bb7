"""How the tests of the broker's reader publish, point and read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.broker.broker_by_url import BrokerByUrl


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
