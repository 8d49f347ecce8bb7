"""Server-sent events: what is new since the last tick, to each page that is open.

It owns the form of an event, how many streams there may be, and what a slow reader is sent: not every tick,
but all that changed since the last one it took, so that nothing piles up for it. A row is encoded once a
tick, whatever the number of readers, and not at all while there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from scaler.web import documents
from scaler.web.board import Board
from scaler.web.links import Links

Event = tuple[str, Mapping[str, Any]]
"""Its name and its document; no name is a comment."""

MOST_STREAMS: Final = 64
QUIET_SECONDS: Final = 10.0
"""Silence after which a comment is sent: proxies close a connection that says nothing."""
WRITE_SECONDS: Final = 10.0
"""Time for a reader to take an event; one that does not is cut off, and comes again where it lives."""


class Rows:
    """The encoded row of each pool, and since which tick it is what it is."""

    def __init__(self, board: Board, links: Links) -> None:
        self._board = board
        self._links = links
        self._turn = -1
        self._minute = -1
        self._rows: dict[str, tuple[int, bytes]] = {}

    def current(self) -> list[bytes]:
        self._refresh()
        return [row for _, row in self._rows.values()]

    def since(self, turn: int) -> list[bytes]:
        """Rows that became what they are in a tick after this one."""
        self._refresh()
        return [row for since, row in self._rows.values() if since > turn]

    def forget(self) -> None:
        """Nobody watches: keep nothing."""
        self._rows, self._turn = {}, -1

    def _refresh(self) -> None:
        board = self._board
        if self._turn == board.turn:
            return
        # The small charts move on by a minute also where a pool's figures stay.
        minute = int((board.at or 0) // 60)
        charts = len(board.pools) <= documents.SPARK_POOLS
        moved, self._minute = minute != self._minute, minute
        rows = {}
        for name, followed in board.pools.items():
            figures = documents.row(followed)
            if charts:
                figures["spark"] = documents.spark(followed, board.at)
            encoded = msgspec.json.encode(figures)
            was = self._rows.get(name)
            same = was is not None and was[1] == encoded and not (charts and moved)
            rows[name] = was if same and was is not None else (board.turn, encoded)
        self._rows, self._turn = rows, board.turn


class Streams:
    def __init__(self, board: Board, links: Links) -> None:
        self._board = board
        self._links = links
        self.rows = Rows(board, links)
        self.open = 0

    async def fleet(self, request: web.Request) -> web.StreamResponse:
        """Event `fleet` after each tick: the head, and the rows that changed."""
        return await self._tell(request, self._of_fleet())

    async def pool(self, request: web.Request, name: str) -> web.StreamResponse:
        """Event `pool` after each tick: one pool with what is new of its past; `gone` when it is removed."""
        return await self._tell(request, self._of_pool(name, _number(request.query.get("since"))))

    async def _of_fleet(self) -> AsyncIterator[Event]:
        board, seen = self._board, -1
        while True:
            document = documents.fleet(board, self._links, self.rows.since(seen))
            document["whole"] = seen < 0
            document["gone"] = [name for turn, name in board.gone if turn > seen and name not in board.pools]
            seen = board.turn
            yield "fleet", document
            async for comment in self._until_after(seen):
                yield comment

    async def _of_pool(self, name: str, since: float | None) -> AsyncIterator[Event]:
        board = self._board
        while (followed := board.pools.get(name)) is not None:
            document = documents.pool(board, self._links, followed, since=since)
            turn, since = board.turn, board.at
            yield "pool", document
            async for comment in self._until_after(turn):
                yield comment
        yield "gone", documents.unknown_pool(name, board.pools)

    async def _until_after(self, turn: int) -> AsyncIterator[Event]:
        """Wait for a tick after this one, with a comment now and then."""
        while self._board.turn == turn:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._board.turned()
            except TimeoutError:
                yield "", {}

    async def _tell(self, request: web.Request, events: AsyncIterator[Event]) -> web.StreamResponse:
        if request.method == "HEAD":
            return _response()
        if self.open >= MOST_STREAMS:
            said = f"{MOST_STREAMS} pages are open already\n"
            raise web.HTTPServiceUnavailable(text=said, headers={"Retry-After": "10"})
        self.open += 1
        response = _response()
        try:
            await response.prepare(request)
            async for event, document in events:
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(_encoded(event, document))
        except (ConnectionError, TimeoutError):
            pass  # the reader has gone, or takes nothing
        finally:
            self.open -= 1
            if not self.open:
                self.rows.forget()
        return response


def _response() -> web.StreamResponse:
    return web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            # nginx would collect events until a buffer is full.
            "X-Accel-Buffering": "no",
        }
    )


def _encoded(event: str, document: Mapping[str, Any]) -> bytes:
    if not event:
        return b": quiet\n\n"
    return b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(document) + b"\n\n"


def _number(text: str | None) -> float | None:
    """A query's number; None for anything else, as if it had not been given."""
    try:
        return float(text) if text else None
    except ValueError:
        return None
