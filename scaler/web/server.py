"""The scaler's HTTP server: its page, the same as JSON, /healthz and /metrics.

It owns the addresses, which form an answer has, and the headers that keep the page what it is: read-only,
of this origin only, in no other page's frame. It offers no authentication, since it is for the inside of the
cluster and for port forwarding; so it changes nothing and holds no secret. /healthz and /metrics stay where
they are whatever the prefix: kubelet and Prometheus come without a proxy.

What is answered is in `scaler.web.documents` and, for events, in `scaler.web.streams`.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from scaler.web import documents
from scaler.web.board import Board
from scaler.web.links import Links
from scaler.web.streams import Streams

STATIC: Final = Path(__file__).parent / "static"
TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Else aiohttp tells its own version, and Python's.
    "Server": "celery-fleet",
}
FORMATS: Final = {"html": "text/html", "json": "application/json", "events": "text/event-stream"}
MOST_NAMES: Final = 200
"""Names of pools on the page that says that there is no such pool."""


class PortTaken(Exception):  # noqa: N818  # a fact about the machine
    """One line for whoever started the scaler."""


class Site:
    """The page's addresses, below the prefix."""

    def __init__(self, board: Board, links: Links) -> None:
        self._board = board
        self._links = links
        self._streams = Streams(board, links)
        self._files = {
            path.relative_to(STATIC).as_posix(): path.read_bytes()
            for path in sorted(STATIC.rglob("*"))
            if path.suffix in TYPES
        }

    def routes(self) -> list[web.RouteDef]:
        prefix = self._links.prefix
        found = [
            web.get(f"{prefix}/", self.fleet),
            web.get(f"{prefix}/pools/{{name}}", self.pool),
            web.get(f"{prefix}/static/{{path:.+}}", self.file),
        ]
        return [*found, web.get(prefix, self.with_slash)] if prefix else found

    async def with_slash(self, _request: web.Request) -> web.Response:
        # Relative, like every address here: a proxy may have taken off a part that we do not know of.
        raise web.HTTPMovedPermanently(f"{self._links.prefix.rpartition('/')[2]}/")

    async def fleet(self, request: web.Request) -> web.StreamResponse:
        match _format(request):
            case "events":
                return await self._streams.fleet(request)
            case "json":
                rows = self._streams.rows.current()
                if not self._streams.open:
                    self._streams.rows.forget()
                return _json(documents.fleet(self._board, self._links, rows))
        return self._html("index.html")

    async def pool(self, request: web.Request) -> web.StreamResponse:
        name, form = request.match_info["name"], _format(request)
        followed = self._board.pools.get(name)
        if followed is None:
            return self._unknown(request, name, form)
        if form == "events":
            return await self._streams.pool(request, name)
        if form == "json":
            return _json(documents.pool(self._board, self._links, followed))
        return self._html("pool.html")

    async def file(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        body = self._files.get(path)
        if body is None or path.endswith(".html"):
            raise web.HTTPNotFound
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=body, headers=headers, content_type=TYPES[Path(path).suffix], charset="utf-8"
        )

    def nothing_here(self, request: web.Request) -> web.Response:
        """Where no route leads; a proxy and the scaler that disagree about the prefix end here."""
        prefix = self._links.prefix
        said = f"there is nothing at {request.path}: this page's address is {prefix}/"
        hint = f"the prefix is {prefix}" if prefix else "no prefix is set"
        if _format(request) == "html":
            return self._message(request, "Nothing here", f"{said} ({hint}).", [("", "The fleet")])
        return _json({"error": said, "prefix": prefix}, status=404)

    def _unknown(self, request: web.Request, name: str, form: str) -> web.Response:
        document = documents.unknown_pool(name, self._board.pools)
        if form != "html":
            return _json(document, status=404)
        names: list[str] = document["pools"]
        links = [(f"pools/{quote(each)}", each) for each in names[:MOST_NAMES]]
        text = f"There is no pool {name!r}. " + ("These are:" if names else "There is none at all yet.")
        if len(names) > MOST_NAMES:
            text += f" (the first {MOST_NAMES} of {len(names)})"
        return self._message(request, "No such pool", text, links)

    def _html(self, name: str) -> web.Response:
        headers = {"Cache-Control": "no-cache", "Vary": "Accept"}
        return web.Response(
            body=self._files[name], content_type="text/html", charset="utf-8", headers=headers
        )

    def _message(
        self, request: web.Request, title: str, text: str, links: Iterable[tuple[str, str]]
    ) -> web.Response:
        """A 404 in words; `links` are addresses below the prefix."""
        root = "../" * (request.path.count("/") - 1) + self._links.prefix.lstrip("/")
        root = f"{root}/" if root and not root.endswith("/") else root or "./"
        items = "".join(f'<li><a href="{escape(root + to)}">{escape(word)}</a></li>' for to, word in links)
        page = self._files["message.html"].decode()
        for mark, filling in (("title", escape(title)), ("text", escape(text)), ("links", items)):
            page = page.replace(f"<!--{mark}-->", filling)
        page = page.replace('href="static/', f'href="{escape(root)}static/')
        return web.Response(text=page, status=404, content_type="text/html", charset="utf-8")


async def serve(
    board: Board,
    registry: CollectorRegistry,
    alive: Callable[[], bool],
    *,
    host: str,
    port: int,
    links: Links | None = None,
) -> web.AppRunner:
    """Answer until the returned runner is cleaned up. Raises PortTaken."""
    site = Site(board, links or Links())

    async def healthz(_request: web.Request) -> web.Response:
        # The loop's life only: a broker that is away is no reason to restart the scaler.
        turns = alive()
        return web.Response(text="ok\n" if turns else "the loop stands still\n", status=200 if turns else 503)

    async def metrics(_request: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    @web.middleware
    async def in_words(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            return site.nothing_here(request)
        return response

    app = web.Application(middlewares=[in_words])
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics), *site.routes()])
    app.on_response_prepare.append(_with_headers)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} is in use: another scaler, or something else, listens there"
            ) from None
        raise PortTaken(f"port {port} cannot be listened on: {error.strerror}") from None
    return runner


async def _with_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _json(document: Any, *, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    body = msgspec.json.encode(document)
    return web.Response(
        body=body, status=status, content_type="application/json", charset="utf-8", headers=headers
    )


def _format(request: web.Request) -> str:
    """html, json or events: what the query says, else what is accepted first; JSON for who takes anything."""
    asked = request.query.get("format")
    if asked is not None:
        if asked not in FORMATS:
            raise web.HTTPBadRequest(text=f"format must be one of {', '.join(FORMATS)}, not {asked!r}\n")
        return asked
    best, form = 0.0, "json"
    for part in request.headers.get("Accept", "").split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        found = next((name for name, type_ in FORMATS.items() if type_ == kind), None)
        if found is not None and quality > best:
            best, form = quality, found
    return form
