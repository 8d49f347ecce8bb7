"""The reader for whichever broker the URL names, found anew when the URL changes.

It owns the choice, and that an adapter's client is imported only where its broker is there: Redis' alone is
8 MB. The URL's file is read on every tick, so a rotated password needs no restart. It reads no queue itself.

`scaler.broker.redis_broker` and `scaler.broker.rabbitmq_broker` do; `scaler.loop` asks through this one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.broker.redis_layout import Layout
from scaler.broker.url import AmqpUrl, BrokerUrl, UrlFile, UrlUnusable


class Reader(Protocol):
    async def read(self, queues: Collection[str], at: float) -> Backlog: ...
    async def close(self) -> None: ...


class BrokerByUrl:
    def __init__(self, url_file: UrlFile, layout: Layout, management: UrlFile | None = None) -> None:
        self._url_file = url_file
        self._management = management
        self._layout = layout
        self._url: BrokerUrl | None = None
        self._reader: Reader | None = None

    async def read(self, queues: Collection[str], at: float) -> Backlog:
        """What is there now, with what is due by `at`. Raises BrokerFailure."""
        try:
            url = self._url_file.broker()
        except UrlUnusable as unusable:
            raise BrokerFailure(unusable.reason, unusable.sentence) from unusable
        if self._reader is None or url != self._url:
            await self.close()
            self._url, self._reader = url, self._reader_for(url)
        return await self._reader.read(queues, at)

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    def _reader_for(self, url: BrokerUrl) -> Reader:
        if isinstance(url, AmqpUrl):
            from scaler.broker.rabbitmq_broker import RabbitmqBroker

            return RabbitmqBroker(url, self._management)
        from scaler.broker.redis_broker import RedisBroker

        return RedisBroker(url, self._layout)
