"""The page's addresses: which form an answer has, its headers, its prefix, its errors, its streams."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scaler.web.links import Links
from scaler.web.server import HEADERS, STATIC, PortTaken, serve
from scaler.web.streams import MOST_STREAMS
from tests.scaler.shown import Shown

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
async def shown() -> Shown:
    made = Shown()
    made.cluster.add("sums")
    made.cluster.add("mails")
    made.broker.lengths["sums"] = 900
    await made.tick(2)
    return made


@pytest.fixture
async def http(shown: Shown) -> AsyncIterator[aiohttp.ClientSession]:
    async with shown.served() as url, aiohttp.ClientSession(url) as session:
        yield session


async def test_healthz_answers_for_the_loop(http: aiohttp.ClientSession, shown: Shown) -> None:
    """200 as long as it turns, 503 when it stands still: only then does a restart help."""
    async with http.get("/healthz") as well:
        assert (well.status, await well.text()) == (200, "ok\n")
    shown.alive = False
    async with http.get("/healthz") as ill:
        assert ill.status == 503


async def test_metrics_are_prometheus_text(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as answer:
        text = await answer.text()

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'celery_fleet_desired_replicas{pool="sums"} 9.0' in text


@pytest.mark.parametrize("address", ["/", "/pools/sums"])
@pytest.mark.parametrize(
    ("accept", "query", "kind"),
    [
        pytest.param(BROWSER, "", "text/html", id="a browser"),
        pytest.param("*/*", "", "application/json", id="curl"),
        pytest.param("application/json", "", "application/json", id="a script"),
        pytest.param(BROWSER, "?format=json", "application/json", id="the query wins"),
        pytest.param("application/json;q=0.5, text/html", "", "text/html", id="the better liked one"),
        pytest.param("application/json, text/html;q=x", "", "application/json", id="a quality that is none"),
        pytest.param("text/event-stream", "", "text/event-stream", id="an EventSource"),
        pytest.param("*/*", "?format=events", "text/event-stream", id="events by the query"),
    ],
)
async def test_one_address_has_three_forms(
    http: aiohttp.ClientSession, address: str, accept: str, query: str, kind: str
) -> None:
    async with http.get(f"{address}{query}", headers={"Accept": accept}) as answer:
        assert (answer.status, answer.content_type) == (200, kind)


async def test_a_look_at_the_headers_alone_ends(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(10), http.head("/?format=events") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")


async def test_a_form_that_is_not_known_is_said(http: aiohttp.ClientSession) -> None:
    async with http.get("/?format=xml") as answer:
        assert answer.status == 400
        assert await answer.text() == "format must be one of html, json, events, not 'xml'\n"


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/?format=events",
        "/?format=xml",
        "/pools/sums",
        "/pools/none",
        "/static/style.css",
        "/metrics",
        "/no",
    ],
)
async def test_every_answer_is_of_this_origin_only(http: aiohttp.ClientSession, address: str) -> None:
    """Nothing foreign runs in the page and the page runs in nothing foreign, errors included."""
    async with http.get(address, headers={"Accept": BROWSER}) as answer:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


async def test_nothing_can_be_changed(http: aiohttp.ClientSession) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        async with http.request(method, "/pools/sums") as answer:
            assert answer.status == 405


async def test_unknown_pool_names_those_there_are(http: aiohttp.ClientSession) -> None:
    async with http.get("/pools/none") as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "there is no pool 'none'", "pools": ["mails", "sums"]}
    async with http.get("/pools/%3Cb%3E", headers={"Accept": BROWSER}) as answer:
        page = await answer.text()
    assert answer.status == 404
    assert "There is no pool &#x27;&lt;b&gt;&#x27;" in page
    assert re.findall(r'href="([^"]+)"', page) == [
        "../static/icon.svg",
        "../static/style.css",
        "../pools/mails",
        "../pools/sums",
    ]


@pytest.mark.parametrize(
    ("prefix", "address", "said"),
    [
        pytest.param("", "/fleet/", "there is nothing at /fleet/: this page's address is /", id="none set"),
        pytest.param(
            "/fleet",
            "/",
            "there is nothing at /: this page's address is /fleet/",
            id="none came",
        ),
        pytest.param(
            "/fleet",
            "/other/pools/sums",
            "there is nothing at /other/pools/sums: this page's address is /fleet/",
            id="another came",
        ),
    ],
)
async def test_a_prefix_that_does_not_match_is_named(
    shown: Shown, prefix: str, address: str, said: str
) -> None:
    async with shown.served(Links(prefix=prefix)) as url, aiohttp.ClientSession(url) as session:
        async with session.get(address) as answer:
            assert answer.status == 404
            assert await answer.json() == {"error": said, "prefix": prefix}
        async with session.get(address, headers={"Accept": BROWSER}) as answer:
            page = await answer.text()
        home = re.search(r'<li><a href="([^"]+)"', page)
        assert home is not None
        async with session.get(f"{address.rpartition('/')[0]}/{home[1]}") as found:
            assert (found.status, str(found.url)) == (200, f"{url}{prefix}/")


async def test_all_is_below_the_prefix_but_what_has_no_proxy(shown: Shown) -> None:
    """kubelet and Prometheus know nothing of it; a missing slash is mended, or relative links would break."""
    async with shown.served(Links(prefix="/a/fleet")) as url, aiohttp.ClientSession(url) as session:
        for address in (
            "/healthz",
            "/metrics",
            "/a/fleet/",
            "/a/fleet/pools/sums",
            "/a/fleet/static/page.js",
        ):
            async with session.get(address) as answer:
                assert answer.status == 200, address
        async with session.get("/a/fleet", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (301, "fleet/")


async def test_links_are_told(shown: Shown) -> None:
    links = Links(stack_name="dev", flower="https://flower.example/", grafana=None)
    async with shown.served(links) as url, aiohttp.ClientSession(url) as session, session.get("/") as answer:
        told = await answer.json()

    assert told["stack"] == "dev"
    assert told["links"] == {"stack": None, "flower": "https://flower.example/", "grafana": None}


async def test_a_port_that_is_taken_is_one_line(shown: Shown) -> None:
    async with shown.served() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(PortTaken, match=rf"^port {port} is in use: another scaler, .*$"):
            await serve(shown.board, shown.metrics.registry, lambda: True, host="127.0.0.1", port=port)


async def test_files_are_kept_by_browsers_until_they_change(http: aiohttp.ClientSession) -> None:
    async with http.get("/static/page.js") as answer:
        tag = answer.headers["ETag"]
    async with http.get("/static/page.js", headers={"If-None-Match": tag}) as again:
        assert again.status == 304


@pytest.mark.parametrize(
    "path", ["../server.py", "%2e%2e/server.py", "/etc/passwd", "index.html", "uplot/README.md", "uplot/"]
)
async def test_no_other_file_is_served(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(f"/static/{path}") as answer:
        assert answer.status == 404


def test_the_page_needs_nothing_from_elsewhere_and_no_inline_code() -> None:
    """Offline, below any prefix, under its own policy: all its addresses are relative, and files."""
    for page in STATIC.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"\sstyle=|\son\w+=|javascript:", text), page
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), page
        root = Path("..") if page.name == "pool.html" else Path()
        for address in re.findall(r'(?:href|src)="([^"#?]+)', text):
            if address.rstrip("./"):
                assert (STATIC.parent / "static" / Path(address).relative_to(root / "static")).is_file(), (
                    address
                )
    for script in STATIC.glob("*.js"):
        text = script.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("https and localhost", ""), script
        assert not re.search(r"\beval\(|innerHTML =|insertAdjacentHTML|document\.write", text), script


def test_the_vendored_version_is_the_one_that_is_named() -> None:
    """uPlot with its licence, as its package has it."""
    folder = STATIC / "uplot"

    assert "(v1.6.32)" in (folder / "uPlot.iife.min.js").read_text()[:80]
    assert "uPlot 1.6.32" in (folder / "README.md").read_text()
    assert "MIT License" in (folder / "LICENSE").read_text()


class Reader:
    """Reads the events of one stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> tuple[str, Any]:
        event = ""
        async with asyncio.timeout(10):
            while True:
                line = (await self._answer.content.readline()).decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                if line.startswith("data: "):
                    return event, json.loads(line.removeprefix("data: "))


async def test_the_fleet_s_stream_tells_what_changed(http: aiohttp.ClientSession, shown: Shown) -> None:
    """First all pools; then, tick by tick, the rows that are not what they were; last who is gone."""
    async with http.get("/?format=events") as answer:
        reader = Reader(answer)
        event, first = await reader.next()
        shown.broker.lengths["mails"] = 5
        await shown.tick()
        _, second = await reader.next()
        del shown.cluster.celeries["mails"]
        await shown.tick()
        _, third = await reader.next()

    assert (event, first["whole"], [row["name"] for row in first["pools"]]) == (
        "fleet",
        True,
        ["sums", "mails"],
    )
    assert (second["whole"], [(row["name"], row["queued"]) for row in second["pools"]]) == (
        False,
        [("mails", 5)],
    )
    assert (third["pools"], third["gone"]) == ([], ["mails"])


async def test_a_reader_that_comes_back_gets_what_it_missed(
    http: aiohttp.ClientSession, shown: Shown
) -> None:
    async with http.get("/pools/sums?format=events") as answer:
        _, first = await Reader(answer).next()
    shown.broker.lengths["sums"] = 0
    await shown.tick(3)
    async with http.get(f"/pools/sums?format=events&since={first['at']}") as answer:
        _, later = await Reader(answer).next()

    assert [at > first["at"] for at in later["history"]["at"]] == [True]
    assert [entry["at"] > first["at"] for entry in later["log"]] == [True]


async def test_a_pool_s_stream_ends_with_the_pool(http: aiohttp.ClientSession, shown: Shown) -> None:
    async with http.get("/pools/mails?format=events") as answer:
        reader = Reader(answer)
        await reader.next()
        del shown.cluster.celeries["mails"]
        await shown.tick()
        event, said = await reader.next()

    assert (event, said["pools"]) == ("gone", ["sums"])


async def test_streams_are_bounded(shown: Shown) -> None:
    """One more than there may be is told so, and let in when another has left."""
    many = aiohttp.TCPConnector(limit=0)
    async with shown.served() as url, aiohttp.ClientSession(url, connector=many) as session:
        readers = [await session.get("/?format=events") for _ in range(MOST_STREAMS)]
        async with session.get("/?format=events") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        readers.pop().close()
        async with asyncio.timeout(10):
            while (again := await session.get("/?format=events")).status == 503:
                await shown.tick()
        assert again.status == 200
        for reader in (again, *readers):
            reader.close()
