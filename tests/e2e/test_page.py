"""The scaler's page, in a real Chromium, while a real fleet follows a real flood."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from demo.forward import forwarded
from scaler.contract import HTTP_PORT, SCALER_NAME
from tests.chromium import Tab, chromium
from tests.e2e.stack import CALM_SECONDS, LEAST, MOST, POOL, Stack

pytestmark = pytest.mark.cluster

OUT_SECONDS = 60
EMPTY_SECONDS = 240
IN_SECONDS = CALM_SECONDS + 60
QUIET_SECONDS = 12


def figure(title: str) -> str:
    """A number of the page, as a number."""
    term = f"[...document.querySelectorAll('dt')].find((term) => term.textContent === '{title}')"
    return f"Number({term}?.nextElementSibling.textContent.replaceAll(',', ''))"


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # an address of this machine
        return str(answer.read().decode())


def requests(url: str) -> dict[tuple[str, str], float]:
    """How often the scaler asked the API server, by verb and resource."""
    found: dict[tuple[str, str], float] = {}
    pattern = r'celery_fleet_api_requests_total\{code="\w+",resource="([^"]+)",verb="(\w+)"\} (\S+)'
    for resource, verb, times in re.findall(pattern, read(f"{url}/metrics")):
        found[verb, resource] = found.get((verb, resource), 0) + float(times)
    return found


async def test_the_page_follows_a_flood_live(stack: Stack, tmp_path: Path) -> None:
    """Out, empty and in again, without a reload; each step explained; the cluster asked for none of it."""
    with forwarded(stack.cluster, stack.namespace, SCALER_NAME, HTTP_PORT) as url:
        async with chromium(f"{url}/pools/{POOL}", tmp_path) as tab:
            await tab.until("document.getElementById('log').children.length > 0")
            await _asks_nothing(url)
            before = len(await _scaled(tab))

            flood = asyncio.create_task(asyncio.to_thread(stack.flood, tasks=2000, batches=3, ms=10))
            await tab.until(f"{figure('Queued')} > 0", seconds=OUT_SECONDS)
            await tab.until(f"{figure('Ready')} === {MOST}", seconds=OUT_SECONDS)
            await tab.until("parseFloat(document.getElementById('begun').textContent) > 0", seconds=30)
            await flood
            await tab.until(f"{figure('Queued')} === 0", seconds=EMPTY_SECONDS)
            await tab.until(f"{figure('Ready')} === {LEAST}", seconds=IN_SECONDS)

            steps = (await _scaled(tab))[before:]
            assert steps[0] == [LEAST, MOST]
            assert [steps[1][0], steps[-1][1]] == [MOST, LEAST]
            assert all(begin > end for begin, end in steps[1:])
            assert await tab.evaluate("document.getElementById('banner').hidden")
            assert tab.complaints == []
        found = json.loads(read(f"{url}/pools/{POOL}?format=json"))
    _explains_itself(found)


async def _asks_nothing(url: str) -> None:
    """While the fleet rests and the page is open, there is the lease to renew, and watches to reopen."""
    before = await asyncio.to_thread(requests, url)
    await asyncio.sleep(QUIET_SECONDS)
    after = await asyncio.to_thread(requests, url)
    asked = {key for key in after if after[key] != before.get(key, 0)}
    assert {(verb, resource) for verb, resource in asked if verb != "watch"} <= {("update", "leases")}


async def _scaled(tab: Tab) -> list[list[int]]:
    """From and to, of each change of the workers, the oldest first."""
    moved = "[...document.querySelectorAll('#log li.scaled .moved')]"
    newest_first = await tab.evaluate(f"{moved}.map((each) => each.firstChild.textContent)")
    return [[int(number) for number in step.split(" → ")] for step in reversed(newest_first)]


def _explains_itself(found: dict[str, Any]) -> None:
    """Each decision of the log ends at what it decided, and the hour's points are in order."""
    for entry in found["log"]:
        if entry["steps"]:
            assert entry["steps"][-1]["after"] == entry["desiredReplicas"], entry
    times = found["history"]["at"]
    assert times == sorted(times)
    assert max(value for value in found["history"]["demand"] if value is not None) > 1000
    assert "redis://" not in json.dumps(found)
