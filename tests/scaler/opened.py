"""The scaler's page, open in a Chromium beside a scaler amid fakes; and where on it things are found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scaler.web.links import Links
from tests.chromium import Tab, chromium
from tests.scaler.shown import Shown
from tests.scaler.stage import AT_ONCE

ROWS = "[...document.querySelectorAll('#rows tr')].map((row) => row.querySelector('a').textContent)"
BANNER = "document.getElementById('banner').hidden ? '' : document.getElementById('banner').textContent"
READY = "document.querySelector('#rows tr, #log li') !== null"


DASH = "\u2013"


def cell(pool: str, kind: str) -> str:
    rows = "[...document.querySelectorAll('#rows tr')]"
    row = f"{rows}.find((row) => row.querySelector('a').textContent === '{pool}')"
    return f"{row}?.querySelector('{kind}')?.textContent"


def text(name: str) -> str:
    return f"document.getElementById('{name}').textContent"


def figure(title: str) -> str:
    """Of the pool's page, by its title."""
    term = f"[...document.querySelectorAll('dt')].find((term) => term.textContent === '{title}')"
    return f"{term}?.nextElementSibling.textContent"


async def busy() -> Shown:
    """Three pools: a flood at its maximum, a paused one, and one in shadow beside an HPA."""
    shown = Shown()
    shown.cluster.add("sums", maxReplicas=4, behavior=AT_ONCE)
    shown.cluster.add("mails", paused=True)
    shown.cluster.add("orders", mode="shadow", behavior=AT_ONCE)
    shown.cluster.autoscalers["orders-celery-worker"] = "theirs"
    await shown.tick(3)
    shown.broker.lengths |= {"sums": 3600, "orders": 460}
    await shown.tick(3)
    return shown


@asynccontextmanager
async def at(
    shown: Shown, folder: Path, address: str = "/", *, links: Links | None = None, width: int = 1280
) -> AsyncIterator[tuple[Tab, str]]:
    """The page, loaded; and at the end, that the browser had nothing to complain of."""
    async with shown.served(links) as url, chromium(f"{url}{address}", folder) as tab:
        await tab.resize(width, 900)
        await tab.until(READY)
        yield tab, url
        assert tab.complaints == []
