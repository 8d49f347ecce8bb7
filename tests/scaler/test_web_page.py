"""The page in a real Chromium: what it shows, live; what it says when the news stops; for every reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from scaler.web.board import Board
from scaler.web.links import Links
from tests.chromium import Tab, chromium
from tests.conftest import free_port
from tests.scaler.opened import BANNER, DASH, READY, ROWS, at, busy, cell, figure, text
from tests.scaler.samples import AT
from tests.scaler.shown import Shown

AXE = Path(__file__).parents[1] / "axe" / "axe.min.js"
FOCUSED = "document.activeElement.id || document.activeElement.textContent.trim()"


async def test_the_fleet_is_shown(tmp_path: Path) -> None:
    """Figures, states, marks, totals, the vital signs; what is not known is a dash that is read as words."""
    shown = await busy()
    async with at(shown, tmp_path) as (tab, _):
        assert await tab.evaluate(ROWS) == ["mails", "orders", "sums"]
        assert await tab.evaluate(cell("sums", "td.workers")) == f"4 between 2{DASH}4"
        assert await tab.evaluate(cell("orders", "td.workers")) == f"2 → 5 between 2{DASH}10"
        assert await tab.evaluate(cell("orders", "td.name")) == "ordersshadowHPA"
        states = [await tab.evaluate(cell(pool, "td.state")) for pool in ("sums", "mails", "orders")]
        assert states == ["Limited", "Paused", "Active"]
        assert "AtMaximum demand 3600" in await tab.evaluate(cell("sums", "td.why"))
        terms = "[...document.querySelectorAll('#totals dt')].map((term) => term.parentNode.textContent)"
        assert (await tab.evaluate(terms))[:2] == ["Pools3", "Queued4,060"]
        assert "Broker" in await tab.evaluate(text("vitals"))
        assert "Next poll" in await tab.evaluate(text("vitals"))
        assert await tab.evaluate(BANNER) == ""


async def test_a_tick_changes_what_is_seen(tmp_path: Path) -> None:
    """Without a reload: figures, order, a pool that is new and one that is gone."""
    shown = await busy()
    async with at(shown, tmp_path) as (tab, _):
        await tab.evaluate("window.same = document.querySelector('#rows tr')")
        shown.broker.lengths["mails"] = 1234
        shown.cluster.add("young")
        await shown.tick()
        await tab.until(f"{cell('mails', 'td.n')} === '1,234'")
        assert await tab.until(f"{ROWS}.length === 4")
        assert await tab.evaluate("window.same === document.querySelector('#rows tr')")
        del shown.cluster.celeries["sums"]
        await shown.tick()
        await tab.until(f"!{ROWS}.includes('sums')")


async def test_one_pool_is_explained(tmp_path: Path) -> None:
    """Its figures, the chart, the arithmetic of the last decision, and of each that changed something."""
    shown = await busy()
    async with at(shown, tmp_path, "/pools/sums") as (tab, _):
        assert await tab.evaluate("document.title") == f"sums {DASH} Celery Fleet"
        assert await tab.evaluate(figure("Queued")) == "3,600"
        assert "between 2 and 4" in await tab.evaluate(text("workers"))
        assert await tab.evaluate("document.querySelectorAll('#chart canvas').length") == 1
        assert "was 3,600 at most" in await tab.evaluate(text("chart-summary"))
        last = "document.querySelector('#steps tbody tr:last-child').textContent"
        assert await tab.evaluate(last) == "Boundsnot below 2, not above 436 → 4"
        scaled = "document.querySelector('#log li.scaled summary')"
        assert "2 → 4" in await tab.evaluate(f"{scaled}.innerText")
        await tab.evaluate(f"{scaled}.click()")
        assert "asks for 36" in await tab.until("document.querySelector('#log .steps')?.innerText")

        shown.broker.lengths["sums"] = 0
        await shown.tick()
        await tab.until(f"{figure('Queued')} === '0'")
        assert await tab.evaluate("document.querySelectorAll('#log .steps').length") == 1


async def test_what_is_not_known_is_a_dash_and_no_zero(tmp_path: Path) -> None:
    shown = await busy()
    shown.broker.goes_away()
    await shown.tick()
    async with at(shown, tmp_path, "/pools/sums") as (tab, _):
        assert await tab.evaluate(figure("Queued")) == f"{DASH}not known"
        assert "cannot be reached" in await tab.evaluate(text("problem"))
        assert "Broker away" in await tab.evaluate(text("vitals"))


async def test_a_scaler_that_falls_silent_is_told(tmp_path: Path) -> None:
    """The loop hangs and its server still answers: the figures are old, and the page says since when."""
    shown = Shown(board=Board("shop", 2.0, patience_seconds=1.5))
    shown.cluster.add()
    await shown.tick()
    async with at(shown, tmp_path) as (tab, _):
        said = await tab.until(BANNER)
        assert "No news from the scaler since" in said
        assert await tab.evaluate("document.body.classList.contains('stale')")
        await shown.tick()
        await tab.until(f"({BANNER}) === ''", seconds=3)


async def test_ticks_that_see_nothing_are_told(tmp_path: Path) -> None:
    """The stream goes on while the broker is away: what is shown is old all the same, and why."""
    shown = await busy()
    async with at(shown, tmp_path) as (tab, _):
        shown.broker.goes_away()
        await shown.tick(7)
        said = await tab.until(BANNER)
        assert "Not read in full since" in said
        assert "Redis at redis:6379/0 cannot be reached" in said
        shown.broker.comes_back()
        await shown.tick()
        await tab.until(f"({BANNER}) === ''")


async def test_a_scaler_that_comes_back_is_found_again(tmp_path: Path) -> None:
    """Its pod is replaced: the page waits, comes back by itself and has missed nothing."""
    shown = Shown(board=Board("shop", 2.0, patience_seconds=1.5))
    shown.cluster.add()
    await shown.tick()
    port = free_port()
    async with shown.served(port=port) as url:
        browser = chromium(f"{url}/pools/sums", tmp_path)
        tab = await browser.__aenter__()
        await tab.until(READY)
    try:
        assert "trying to reach it again" in await tab.until(BANNER)
        shown.broker.lengths["sums"] = 900
        async with shown.served(port=port):
            await shown.tick()
            await tab.until(f"{figure('Queued')} === '900'")
            assert await tab.until(f"({BANNER}) === ''")
            assert await tab.evaluate("document.querySelectorAll('#log li').length") == 2
    finally:
        await browser.__aexit__(None, None, None)


async def test_a_scaler_that_only_observes_says_so(tmp_path: Path) -> None:
    shown = await busy()
    shown.lease.leading = False
    await shown.tick()
    async with at(shown, tmp_path) as (tab, _):
        assert "another one holds the Lease" in await tab.until(BANNER)


async def test_a_pool_that_is_removed_leaves_its_last_word(tmp_path: Path) -> None:
    shown = await busy()
    async with at(shown, tmp_path, "/pools/sums") as (tab, _):
        del shown.cluster.celeries["sums"]
        await shown.tick()
        assert "object is gone" in await tab.until(BANNER)
        assert await tab.evaluate(figure("Queued")) == "3,600"


@asynccontextmanager
async def proxied(url: str, prefix: str) -> AsyncIterator[str]:
    """A reverse proxy that takes its prefix off, as nginx and ingress controllers do."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        target = f"{url}{request.path_qs.removeprefix(prefix)}"
        async with session.get(target, headers={"Accept": request.headers.get("Accept", "")}) as answer:
            kind = {"Content-Type": answer.headers["Content-Type"]}
            response = web.StreamResponse(status=answer.status, headers=kind)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        return response

    app, port = web.Application(), free_port()
    app.router.add_get(f"{prefix}/{{path:.*}}", pass_on)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}{prefix}"
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("kept", [False, True], ids=["the proxy takes it off", "the proxy passes it on"])
async def test_the_page_works_below_a_prefix(tmp_path: Path, kept: bool) -> None:
    """Both pages with styles, scripts, streams and links, and no address outside of it."""
    shown = await busy()
    links = Links(prefix="/team/fleet") if kept else Links()
    async with shown.served(links) as url, proxied(url, "/team/fleet") as stripped:
        home = f"{url}/team/fleet" if kept else stripped
        async with chromium(f"{home}/", tmp_path) as tab:
            await tab.until(READY)
            await tab.evaluate("document.querySelector('#rows a').click()")
            await tab.until("document.querySelector('#log li') !== null && document.title")
            assert await tab.evaluate("location.href") == f"{home}/pools/mails"
            assert await tab.until(
                "getComputedStyle(document.querySelector('.chip')).borderRadius === '20px'"
            )
            await tab.evaluate("document.querySelector('.crumbs a').click()")
            await tab.until("document.querySelector('#rows tr') !== null")
            loaded = "performance.getEntriesByType('resource').map((each) => each.name)"
            assert [name for name in await tab.evaluate(loaded) if not name.startswith(home)] == []
            assert tab.complaints == []


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("address", ["/", "/pools/sums"])
async def test_nothing_is_wider_than_a_phone(tmp_path: Path, address: str, width: int) -> None:
    shown = await busy()
    elsewhere = "https://elsewhere.example/"
    links = Links(stack_name="production", stack=elsewhere, flower=elsewhere, grafana=elsewhere)
    async with at(shown, tmp_path, address, links=links, width=width) as (tab, _):
        await tab.until("document.getElementById('link-grafana') !== null")
        assert await tab.evaluate("innerWidth") == width
        page = "document.documentElement"
        assert await tab.evaluate(f"{page}.scrollWidth - {page}.clientWidth") == 0


async def test_the_keyboard_reaches_everything(tmp_path: Path) -> None:
    """Skip link, search, sorting, filters; on a pool's page the chart, the log and the commands."""
    shown = await busy()
    async with at(shown, tmp_path) as (tab, url):
        await tab.press("Tab")
        assert await tab.evaluate(FOCUSED) == "Skip to the pools"
        await tab.press("Enter")
        assert await tab.until("document.activeElement.id") == "main"
        await tab.press("/")
        assert await tab.evaluate(FOCUSED) == "search"
        await tab.press("Tab")
        await tab.press("Enter")
        assert await tab.until(f"{ROWS}.length === 1")
        assert await tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert await tab.evaluate(text("shown")) == "1 of 3 pools"

        await tab.open(f"{url}/pools/sums")
        await tab.until(READY)
        await tab.evaluate("document.getElementById('chart').focus()")
        await tab.press("ArrowLeft")
        assert "workers ready" in await tab.until(text("readout"))
        await tab.press("Tab")
        assert await tab.evaluate("document.activeElement.tagName") == "SUMMARY"
        await tab.press("Enter")
        assert await tab.until("document.querySelector('#log details[open] table') !== null")
        for _ in range(10):
            await tab.press("Tab")
            if await tab.evaluate(FOCUSED) == "command-0":
                break
        command = await tab.evaluate("document.activeElement.textContent")
        assert command == "kubectl exec -n shop deploy/celery-fleet-scaler -- python3 -m scaler explain sums"
        await tab.press("Tab")
        assert await tab.evaluate(FOCUSED) == "Copy"
        await tab.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
        await tab.press("Enter")
        await tab.until(f"{FOCUSED} === 'Copied'")
        assert await tab.evaluate("navigator.clipboard.readText()") == command


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_nothing(tmp_path: Path, scheme: str, width: int) -> None:
    """Contrast, names, roles and structure of both pages, of an outage, and of a pool that is none."""
    shown = await busy()
    async with at(shown, tmp_path, width=width) as (tab, url):
        await tab.prefer(scheme)
        for address in ("/", "/pools/sums", "/pools/orders"):
            await tab.open(f"{url}{address}")
            await tab.until(READY)
            await tab.evaluate("document.querySelectorAll('#log summary')[0]?.click()")
            assert await tab.evaluate("document.documentElement.dataset.theme") == scheme
            assert await findings(tab) == []
        shown.broker.goes_away()
        await shown.tick(8)
        await tab.until(BANNER)
        assert await findings(tab) == []
        await tab.open(f"{url}/pools/none")
        assert await findings(tab) == []
        tab.complaints = [each for each in tab.complaints if "404" not in each]


async def findings(tab: Tab) -> list[Any]:
    source = await asyncio.to_thread(AXE.read_text)
    await tab.evaluate(f"{source}; undefined")
    run = "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations))"
    return [
        (each["id"], each["impact"], [node["html"][:120] for node in each["nodes"]])
        for each in json.loads(await tab.evaluate(run))
    ]


async def test_the_theme_is_the_system_s_until_somebody_chooses(tmp_path: Path) -> None:
    shown = await busy()
    theme = "document.documentElement.dataset.theme"
    async with at(shown, tmp_path) as (tab, url):
        for scheme in ("dark", "light"):
            await tab.prefer(scheme)
            await tab.until(f"{theme} === '{scheme}'")
        await tab.evaluate("document.getElementById('theme').click()")
        assert await tab.evaluate(theme) == "dark"
        await tab.open(f"{url}/pools/sums")
        assert await tab.evaluate(theme) == "dark"


async def test_a_name_is_never_markup(tmp_path: Path) -> None:
    """A queue may be named anything; the browser is told no more than its letters."""
    shown = Shown()
    shown.cluster.add("sums", queue="<img src=x onerror=alert(1)>")
    await shown.tick()
    async with at(shown, tmp_path, "/pools/sums") as (tab, _):
        assert "<img src=x onerror=alert(1)>" in await tab.evaluate(text("queues"))
        assert await tab.evaluate("document.querySelectorAll('main img').length") == 0


async def test_a_thousand_pools_can_be_used(tmp_path: Path) -> None:
    """All are there, found by name, sorted by any figure, and kept up to date."""
    shown = Shown()
    for number in range(1000):
        shown.cluster.add(f"pool-{number}", minReplicas=0, replicas=0)
    await shown.tick()
    async with at(shown, tmp_path) as (tab, _):
        await tab.until(f"{ROWS}.length === 1000")
        shown.broker.lengths["pool-777"] = 50
        await shown.tick()
        await tab.until(f"{cell('pool-777', 'td.n')} === '50'")
        await tab.evaluate("[...document.querySelectorAll('th button')][2].click()")
        assert (await tab.evaluate(ROWS))[0] == "pool-777"
        await tab.evaluate(
            "document.getElementById('search').value = 'pool-99'; "
            "document.getElementById('search').dispatchEvent(new Event('input'))"
        )
        assert await tab.until(f"{ROWS}.length === 11")


async def test_times_are_of_the_scaler_s_clock(tmp_path: Path) -> None:
    """What the browser's own clock says makes nothing stale."""
    shown = await busy()
    assert shown.at < AT + 100
    async with at(shown, tmp_path) as (tab, _):
        await tab.until("document.getElementById('vitals').children.length === 2")
        assert await tab.evaluate(BANNER) == ""
