"""The page with the button, in a real Chromium."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import redis

from tests.chromium import Tab, chromium
from tests.conftest import RedisServer
from tests.sample_app.conftest import Page

PRESS = 'document.querySelector("button").click()'
SAID = 'document.querySelector("output").textContent'
CAN_PRESS = '!document.querySelector("button").disabled'


def choose(field: str, value: str) -> str:
    return f'document.querySelector("[name={field}]").value = "{value}"'


async def press(tab: Tab) -> str:
    """Press the button and wait until it can be pressed again; what the page then says."""
    await tab.evaluate(PRESS)
    for _ in range(300):
        if await tab.evaluate(CAN_PRESS):
            return str(await tab.evaluate(SAID))
        await asyncio.sleep(0.1)
    raise AssertionError(f"the page still says: {await tab.evaluate(SAID)}")


async def test_the_button_floods_the_queue_and_says_how_much(
    page: Page, redis_server: RedisServer, tmp_path: Path
) -> None:
    """The numbers of the fields reach the broker; the answer names the count and the seconds."""
    async with chromium(f"http://127.0.0.1:{page.port}/", tmp_path) as tab:
        await tab.evaluate(choose("tasks", "600"))
        await tab.evaluate(choose("batches", "2"))

        said = await press(tab)

    assert re.fullmatch(r"Published 1,200 tasks in [\d.]+ s\.", said)
    assert redis.Redis(port=redis_server.port).llen("celery") == 1200


async def test_the_page_says_why_a_flood_stopped(
    page: Page, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.stop()
    async with chromium(f"http://127.0.0.1:{page.port}/", tmp_path) as tab:
        said = await press(tab)

    assert said.startswith("Stopped after 0 tasks: the broker is away: ")
