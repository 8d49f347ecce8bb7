"""A real Chromium with one page open, spoken to through its own debugging protocol.

It owns the process and the few calls of the protocol that the tests need, keeps what the page complained of,
and hands over a page that has loaded. It refuses to be a browser library: what a test waits for is the test's
own matter.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "End": ("End", 35, ""),
    " ": ("Space", 32, " "),
    "/": ("Slash", 191, "/"),
}
"""By `key`: the protocol's `code`, the virtual key code, and the text that it types."""


AWAY = ("Inspected target navigated or closed", "Execution context was destroyed", "Cannot find context")
"""What the protocol says, in its version 1.3, of a page asked while the tab goes to another one."""


class LeftPageError(AssertionError):
    """The page that was asked has gone; the tab shows another one, or will."""


class Tab:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        """Errors, failed requests and violations of the Content-Security-Policy, as the browser logs them."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the debugging protocol."""
        asked = next(self._ids)
        await self._socket.send_json({"id": asked, "method": method, "params": parameters})
        async with asyncio.timeout(30):
            while True:
                answer = await self._socket.receive_json()
                if answer.get("id") == asked:
                    break
                self._hear(answer)
        if "error" in answer:
            left = any(said in answer["error"].get("message", "") for said in AWAY)
            raise (LeftPageError if left else AssertionError)(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _hear(self, event: dict[str, Any]) -> None:
        said = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}".strip())
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(said["args"]))

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; an error in the page is an error here."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def until(self, expression: str, seconds: float = 20) -> Any:
        """The first value of it that is true, on this page or on one that a click leads to."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (value := await self._seen(expression)):
            if asyncio.get_running_loop().time() > deadline:
                shown = await self._seen("[location.href, document.readyState, document.body?.innerText]")
                raise AssertionError(f"{expression}: not within {seconds:g} s\n{self.complaints}\n{shown}")
            await asyncio.sleep(0.05)
        return value

    async def _seen(self, expression: str) -> Any:
        """Its value, or None while the tab goes from one page to another."""
        try:
            return await self.evaluate(expression)
        except LeftPageError:
            return None

    async def open(self, url: str) -> None:
        for _ in range(10):
            failure = (await self.call("Page.navigate", url=url)).get("errorText")
            if failure is None:
                there = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
                await self.until(there, 30)
                return
            # Pods that come and go on this machine change its network interfaces.
            assert failure == "net::ERR_NETWORK_CHANGED", f"{url}: {failure}"
        raise AssertionError(f"{url} did not load: {failure}")

    async def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    async def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the system's setting."""
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def press(self, key: str) -> None:
        code, number, text = KEYS[key]
        pressed = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is seen, or of the whole page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


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
            "about:blank",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            port = await _debugging_port(folder)
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await tab.call(f"{domain}.enable")
                await tab.open(url)
                yield tab
    finally:
        process.terminate()
        await process.wait()


async def _debugging_port(folder: Path) -> int:
    file = folder / "profile" / "DevToolsActivePort"
    for _ in range(300):
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        await asyncio.sleep(0.1)
    raise AssertionError(f"Chromium did not start:\n{(folder / 'chromium.log').read_text()}")
