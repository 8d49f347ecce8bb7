"""The page in a real Chromium: each figure, state, mark and link of it, as the tick had them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler.broker.backlog import Backlog, Unacked
from scaler.web.links import Links
from tests.scaler.opened import DASH, at, busy, cell, figure, text
from tests.scaler.shown import Shown
from tests.scaler.stage import AT_ONCE

MARKS = """(() => {
  const chart = document.querySelector('#chart canvas');
  if (!chart) return 0;
  const canvas = new OffscreenCanvas(chart.width, Math.round(16 * devicePixelRatio));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(chart, 0, 0);
  const style = getComputedStyle(document.documentElement).getPropertyValue('--NAME');
  const color = style.trim().match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16)).join();
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const columns = new Set();
  for (let at = 0; at < data.length; at += 4) {
    if (data.slice(at, at + 4).join() === `${color},255`) columns.add((at / 4) % canvas.width);
  }
  return [...columns].filter((column) => !columns.has(column - 1)).length;
})()"""
"""How many triangles of a colour stand above the chart."""


async def at_work() -> Shown:
    """One pool of each kind: a flood at its maximum, workers that leave, one without workers, one at rest."""
    shown = Shown()
    shown.cluster.add("sums", maxReplicas=4)
    shown.cluster.add("leavers", replicas=6, behavior=AT_ONCE)
    shown.cluster.add("lost")
    del shown.cluster.deployments["lost-celery-worker"]
    shown.cluster.add("rest")
    shown.broker.lengths["sums"] = 3600
    shown.broker.later["sums"] = 40
    shown.broker.next_due["sums"] = shown.at + 600
    shown.broker.unacked = Unacked(by_queue={"sums": 12})
    await shown.tick()
    shown.cluster.snapshot()  # the ReplicaSet makes the pods that were asked for
    for pod in shown.workers.living():
        if not pod.startswith("rest"):
            shown.workers.running[pod] = {f"task of {pod}"}
    shown.workers.acknowledged |= {f"task of {pod}" for pod in shown.workers.running if "leavers" in pod}
    for _ in range(12):
        for pod in shown.workers.living():
            if pod.startswith("sums"):
                shown.workers.processed[pod] = shown.workers.processed.get(pod, 0) + 10
        shown.broker.lengths["sums"] = int(str(shown.broker.lengths["sums"])) + 4
        await shown.tick()
    return shown


async def test_every_state_has_its_word(tmp_path: Path) -> None:
    """In the row, and among those to choose by; the first by which most should be done."""
    shown = await at_work()
    shown.cluster.add("held", paused=True)
    await shown.tick()
    async with at(shown, tmp_path) as (tab, _):
        pools = ("sums", "leavers", "lost", "rest", "held")
        states = [await tab.evaluate(cell(pool, "td.state .chip")) for pool in pools]
        assert states == ["Limited", "Draining", "Hold", "Idle", "Paused"]
        buttons = "[...document.querySelectorAll('#states button')].map((each) => each.textContent)"
        assert await tab.evaluate(buttons) == ["Limited 1", "Hold 1", "Draining 1", "Paused 1", "Idle 1"]
        assert "there is no Deployment lost-celery-worker" in await tab.evaluate(cell("lost", "td.why"))


async def test_the_fleet_s_row_has_every_figure(tmp_path: Path) -> None:
    shown = await at_work()
    async with at(shown, tmp_path, width=1800) as (tab, _):
        titles = "[...document.querySelectorAll('#columns th')].map((each) => each.textContent)"
        each = "[...row.children].map((each) => each.textContent)"
        cells = f"[...document.querySelectorAll('#rows tr')].map((row) => {each})"
        rows = {
            row[0]: dict(zip(await tab.evaluate(titles), row, strict=True))
            for row in await tab.evaluate(cells)
        }
        figures = ("Queued", "Unacked", "Active", "Not due", "Capacity", "Arriving", "Worked off")
        assert {pool: [row[title] for title in figures] for pool, row in rows.items()} == {
            "leavers": ["0", "0", "6", "0", "4", "0.7/s", "0/s"],
            "lost": [f"{DASH}not known"] * 7,
            "rest": ["0", "0", "0", "0", "4", "0/s", "0/s"],
            "sums": ["3,648", "12", "4", "40", "8", "22/s", "20/s"],
        }


async def test_a_pool_s_page_has_every_figure(tmp_path: Path) -> None:
    shown = await at_work()
    async with at(shown, tmp_path, "/pools/sums") as (tab, url):
        titles = ("Queued", "Unacked", "Active", "Not due", "Ready", "Capacity", "Arriving")
        figures = {title: await tab.evaluate(figure(title)) for title in titles}
        assert figures == {
            "Queued": "3,648",
            "Unacked": "12",
            "Active": "4",
            "Not due": "40",
            "Ready": "4",
            "Capacity": "8",
            "Arriving": "22/s",
        }
        assert await tab.evaluate(text("begun")) == "20/s"
        assert await tab.evaluate(text("state")) == "Limited"

        await tab.open(f"{url}/pools/leavers")
        await tab.until(f"{figure('Leaving')} === '4'")
        assert await tab.evaluate(text("state")) == "Draining"
        assert (await tab.evaluate(text("drain"))).startswith("waiting for the tasks of leavers-")


async def test_the_head_tells_of_broker_and_poll(tmp_path: Path) -> None:
    """How long a read takes, the slowest of late, when the next poll is, and that it does not come."""
    shown = await busy()
    for seconds in (0.0831, 0.0042):
        shown.board.broker_read(seconds, Backlog(lengths={}, unacked=Unacked()))
    async with at(shown, tmp_path) as (tab, _):
        vitals = "[...document.getElementById('vitals').children]"
        assert await tab.evaluate(f"{vitals}[0].textContent") == "Broker 4.2 ms"
        assert await tab.evaluate(f"{vitals}[0].title") == "slowest read of the last minutes 83 ms"
        await shown.tick()
        left = await tab.until(f"/^Next poll in ([01]\\.\\d|2\\.0) s$/.exec({vitals}[1].textContent)?.[1]")
        assert 0 <= float(left) <= 2
        await tab.until(f"{vitals}[1].textContent === 'Next poll is late'")


@pytest.mark.parametrize("address", ["/", "/pools/sums"])
async def test_the_head_links_to_what_is_elsewhere(tmp_path: Path, address: str) -> None:
    """The stack by name, Flower, Grafana: those that there are, before the page's own JSON."""
    shown = await busy()
    links = Links(
        stack_name="dev",
        stack="https://stacks.example/dev",
        flower="http://172.18.0.2:30555/",
        grafana="https://grafana.example/d/1",
    )
    found = (
        "[...document.querySelectorAll('#links a')].map((each) => [each.textContent, each.href, each.rel])"
    )
    async with at(shown, tmp_path, address, links=links) as (tab, url):
        assert await tab.evaluate(text("namespace")) == "dev · shop"
        assert await tab.evaluate(found) == [
            ["Stack", "https://stacks.example/dev", "noreferrer"],
            ["Flower", "http://172.18.0.2:30555/", "noreferrer"],
            ["Grafana", "https://grafana.example/d/1", "noreferrer"],
            ["JSON", f"{url}{address}?format=json", ""],
        ]
    folder = tmp_path / "without"
    folder.mkdir()
    async with at(shown, folder, address) as (tab, _):
        assert await tab.evaluate(text("namespace")) == "shop"
        assert [name for name, _, _ in await tab.evaluate(found)] == ["JSON"]


async def test_the_chart_has_a_mark_for_each_change(tmp_path: Path) -> None:
    """Up and down in their colours; in shadow where it would have been, and the legend says so."""
    shown = Shown()
    shown.cluster.add("sums", behavior=AT_ONCE)
    shown.cluster.add("orders", mode="shadow", behavior=AT_ONCE)
    await shown.tick(30)
    for length in (300, 600):
        shown.broker.lengths |= {"sums": length, "orders": length}
        await shown.tick(30)
    shown.broker.lengths |= {"sums": 0, "orders": 0}
    await shown.tick(30)
    up, down = (MARKS.replace("NAME", name) for name in ("up", "down"))
    async with at(shown, tmp_path, "/pools/sums") as (tab, url):
        legend = "document.querySelector('#legend li:last-child').textContent"
        await tab.until(f"{up} === 2")
        assert await tab.evaluate(down) == 1
        assert await tab.evaluate(legend) == "▲▼Scaled"
        await shown.tick(30)
        shown.broker.lengths["sums"] = 500
        await shown.tick()
        await tab.until(f"{up} === 3")

        await tab.open(f"{url}/pools/orders")
        await tab.until(f"{up} === 2")
        assert await tab.evaluate(down) == 1
        assert await tab.evaluate(legend) == "▲▼Would scale"
