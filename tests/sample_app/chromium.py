"""A real Chromium with one page open, spoken to through its own debugging protocol.

It owns the process and the one call of the protocol that the tests need, and hands over a page that
has loaded. It refuses to be a browser library: what a test waits for is the test's own matter.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp


class Tab:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; an error in the page is an error here."""
        asked = next(self._ids)
        parameters = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        await self._socket.send_json({"id": asked, "method": "Runtime.evaluate", "params": parameters})
        async with asyncio.timeout(30):
            while True:
                answer = await self._socket.receive_json()
                if answer.get("id") == asked:
                    break
        if "exceptionDetails" in answer["result"]:
            raise AssertionError(json.dumps(answer["result"]["exceptionDetails"]))
        return answer["result"]["result"].get("value")


@asynccontextmanager
async def chromium(url: str, folder: Path) -> AsyncIterator[Tab]:
    program = shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium"
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            "--headless=new",
            "--no-sandbox",  # tests run as root, where Chromium refuses its sandbox
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder / 'profile'}",
            url,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            port = await _debugging_port(folder)
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"]) as socket:
                tab = Tab(socket)
                await _loaded(tab, url)
                yield tab
    finally:
        process.terminate()
        await process.wait()


async def _loaded(tab: Tab, url: str) -> None:
    for _ in range(300):
        if await tab.evaluate("[location.href, document.readyState]") == [url, "complete"]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{url} did not load")


async def _debugging_port(folder: Path) -> int:
    file = folder / "profile" / "DevToolsActivePort"
    for _ in range(300):
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        await asyncio.sleep(0.1)
    raise AssertionError(f"Chromium did not start:\n{(folder / 'chromium.log').read_text()}")
