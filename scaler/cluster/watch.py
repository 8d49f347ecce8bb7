"""Keeps the objects of one kind as the API server has them: list, then watch, for ever.

It owns when to list again and how long to wait after a failure. A stream that stalls is the source's to
notice (by a read timeout); here it is a failure like any other. While one lasts the objects may be out
of date, and `failure` says so.

Source of the protocol: kubernetes.io/docs/reference/using-api/api-concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

from scaler.cluster.objects import ClusterFailure, Kind

FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 10.0
FORBIDDEN_WAIT_SECONDS: Final = 30.0
"""A missing right comes back by a person's hand: asking more often is noise."""

OPENED: Final = "OPENED"
"""The first event of a stream, made by the source: the server has accepted the watch."""

T = TypeVar("T")


class Source(Protocol):
    """Where the objects come from. Both raise ClusterFailure."""

    def pages(self) -> AsyncIterator[tuple[str, list[Any]]]:
        """All objects, page by page, each with the version of the whole list."""

    def events(self, version: str) -> AsyncIterator[tuple[str, Any]]:
        """What changed since: (OPENED, None), then (type, object) until the server ends the stream."""


class Watched(Generic[T]):
    """The extracts of one kind, by name."""

    def __init__(self, source: Source, extract: Callable[[Any, T | None], T | None]) -> None:
        self._source = source
        self._extract = extract
        self._failures = 0
        self.items: dict[str, T] = {}
        self.listed = False
        self.opened = False
        self.failure: ClusterFailure | None = None

    async def follow(self) -> NoReturn:
        version = ""
        while True:
            try:
                version = await self._watch(version or await self._list())
                # A server that ends each stream at once must not be asked in a tight loop.
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311  # jitter is no secret
            except ClusterFailure as failure:
                version = ""
                if failure.kind is Kind.GONE and self._failures == 0:
                    # Not a failure: the server has compacted the changes since.
                    self._failures = 1
                    continue
                self.failure = failure
                await asyncio.sleep(self._wait_seconds(failure))

    async def _list(self) -> str:
        version, names = "", set()
        async for version, page in self._source.pages():  # noqa: B007  # the last page's version is the list's
            for found in page:
                names.add(found.metadata.name)
                self._keep(found)
        for name in self.items.keys() - names:
            del self.items[name]
        self.listed = True
        return version

    async def _watch(self, version: str) -> str:
        async for event, found in self._source.events(version):
            if event == OPENED:
                self.opened, self.failure = True, None
                continue
            self._failures = 0
            version = found.metadata.resource_version
            if event == "DELETED":
                self.items.pop(found.metadata.name, None)
            elif event != "BOOKMARK":
                self._keep(found)
        return version

    def _keep(self, found: Any) -> None:
        name = found.metadata.name
        extract = self._extract(found, self.items.get(name))
        if extract is None:
            self.items.pop(name, None)
        else:
            self.items[name] = extract

    def _wait_seconds(self, failure: ClusterFailure) -> float:
        if failure.kind is Kind.FORBIDDEN:
            longest = FORBIDDEN_WAIT_SECONDS
        else:
            longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        jittered = longest * random.uniform(0.5, 1)  # noqa: S311  # jitter is no secret
        return max(jittered, failure.retry_after_seconds)
