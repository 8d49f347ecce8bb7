"""Asks RabbitMQ's management API what is in the queues of a vhost: the only client of aiohttp.

It owns the requests, how their answers are read, and what their failures mean. All queues of a vhost are one
request. With `disable_stats` and `enable_queue_totals` the figures come from the queues themselves and not
from the statistics that RabbitMQ collects every 5 s; how old they are is in `scaler.broker.rabbitmq_queues`.
A queue that does not answer the server is left out of that list, so the names are another request.

`scaler.broker.rabbitmq_broker` calls it.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from scaler.broker.backlog import BrokerFailure
from scaler.broker.rabbitmq_queues import Row
from scaler.broker.trust import distrust
from scaler.broker.url import ManagementUrl
from scaler.contract import Ready

ANSWER_SECONDS: Final = 1.5
_COLUMNS: Final = ",".join(Row.__struct_fields__)

_T = TypeVar("_T")


class Named(msgspec.Struct):
    name: str


class Binding(msgspec.Struct):
    destination: str
    destination_type: str


class Management:
    def __init__(self, url: ManagementUrl, vhost: str) -> None:
        self._url = url
        self._vhost = url.vhost or vhost
        self._quoted = quote(self._vhost, safe="")
        self._session: aiohttp.ClientSession | None = None

    async def queues(self) -> list[Row]:
        """What every queue holds that answers the server; all raise BrokerFailure."""
        return await self._get(
            f"queues/{self._quoted}?disable_stats=true&enable_queue_totals=true&columns={_COLUMNS}", list[Row]
        )

    async def names(self) -> frozenset[str]:
        """All queues that there are."""
        found = await self._get(f"queues/{self._quoted}?disable_stats=true&columns=name", list[Named])
        return frozenset(each.name for each in found)

    async def bound_to(self, exchange: str) -> list[Binding]:
        """Where this exchange sends messages."""
        path = f"exchanges/{self._quoted}/{quote(exchange, safe='')}/bindings/source"
        return await self._get(path, list[Binding])

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, path: str, shape: type[_T]) -> _T:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._session is None:
                    self._session = self._connected()
                async with self._session.get(f"/api/{path}", allow_redirects=False) as response:
                    if response.status != 200:
                        raise self._refusal(response.status)
                    return msgspec.json.decode(await response.read(), type=shape)
        except BrokerFailure:
            # A connection that was made while RabbitMQ booted knows no path for as long as it is kept.
            await self.close()
            raise
        except msgspec.MsgspecError as error:
            sentence = f"{self._url} gave an answer that is of no use: {str(error)[:200]}"
            raise BrokerFailure(Ready.BROKER_UNREADABLE, sentence) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            await self.close()
            said = self._url.without_password(str(error))[:200] or f"no answer within {ANSWER_SECONDS:g} s"
            raise distrust(str(self._url), error) or self._unavailable(said) from error

    def _connected(self) -> aiohttp.ClientSession:
        url = self._url
        scheme = "https" if url.tls else "http"
        host = f"[{url.host}]" if ":" in url.host else url.host
        return aiohttp.ClientSession(
            f"{scheme}://{host}:{url.port}",
            connector=aiohttp.TCPConnector(limit=1, ssl=url.tls.context() if url.tls else True),
            headers={
                "Authorization": aiohttp.encode_basic_auth(url.username or "guest", url.password or "guest")
            },
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _refusal(self, status: int) -> BrokerFailure:
        user = self._url.username or "guest"
        if status in (401, 403):
            return BrokerFailure(
                Ready.BROKER_REFUSED,
                f"{self._url} answered {status}: user {user} needs the right password, the tag monitoring "
                f"and a permission in vhost {self._vhost}",
            )
        if status == 404:
            sentence = f"{self._url} knows no vhost {self._vhost}: correct the URL's path, or make it"
            return BrokerFailure(Ready.VHOST_NOT_FOUND, sentence)
        return self._unavailable(f"it answered {status}")

    def _unavailable(self, why: str) -> BrokerFailure:
        sentence = (
            f"{self._url} does not tell what workers hold ({why}), so no worker is removed: start the plugin "
            "rabbitmq_management, let the scaler in, or leave the URL out"
        )
        return BrokerFailure(Ready.MANAGEMENT_UNAVAILABLE, sentence)
