"""The pictures in docs/page/, taken of a scaler at work: `python -m demo.screenshots`.

It deploys a stack of four pools in a namespace of its own, gives each of them something to do, and takes the
fleet's page and a pool's, light, dark and as wide as a phone, while the flood is worked off and after it.
The stack is removed at the end. It takes about seven minutes, most of them the hour that it has no time for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from demo import cluster as clusters
from demo import images, rendered
from demo.cluster import Cluster
from demo.commands import say
from demo.environment import ROOT
from demo.flood import publish
from demo.forward import forwarded
from scaler.contract import HTTP_PORT, SCALER_NAME
from tests.chromium import Tab, chromium
from tests.e2e.stack import settings_of

FOLDER: Final = ROOT / "docs" / "page"
POOLS: Final = {
    "default": {"queues": ["celery"], "minReplicas": 2, "maxReplicas": 4},
    "mail": {"queues": ["mail", "bulk"], "minReplicas": 1, "maxReplicas": 3},
    "reports": {"queues": ["reports"], "minReplicas": 0, "maxReplicas": 2, "averageValue": 4},
    "search": {"queues": ["search"], "minReplicas": 1, "maxReplicas": 3, "mode": "shadow"},
}
WIDE: Final = (1280, 460)
PHONE: Final = (390, 560)
READY_SECONDS: Final = 120
REST_SECONDS: Final = 60


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _stack() as (cluster, namespace),
        forwarded(cluster, namespace, SCALER_NAME, HTTP_PORT) as url,
    ):
        complaints = asyncio.run(_pictures(cluster, namespace, url, Path(folder)))
    for complaint in complaints:
        say(f"the browser complains: {complaint}")
    return 1 if complaints else 0


@contextmanager
def _stack() -> Iterator[tuple[Cluster, str]]:
    cluster = clusters.find_or_make()
    built = images.build_and_load(cluster, "")
    namespace = f"shop-{uuid.uuid4().hex[:4]}"
    settings = {**settings_of(namespace, built), "pools": json.dumps(POOLS)}
    try:
        rendered.apply(cluster, "local", settings)
        here = f"--namespace={namespace}"
        for condition, kind in (("Available", "deployment"), ("Ready", "celery")):
            wait = (
                "wait",
                here,
                f"--for=condition={condition}",
                kind,
                "--all",
                f"--timeout={READY_SECONDS}s",
            )
            cluster.kubectl(*wait, timeout_seconds=READY_SECONDS + 10)
        yield cluster, namespace
    finally:
        rendered.remove(cluster, namespace)


async def _pictures(cluster: Cluster, namespace: str, url: str, folder: Path) -> list[str]:
    def send(count: int, queue: str, ms: int, countdown: int = 0) -> None:
        code = (
            f"from sample_app.tasks import sleep; [sleep.apply_async(({ms / 1000},), queue={queue!r}, "
            f"countdown={countdown or None}, ignore_result=True) for _ in range({count})]"
        )
        cluster.kubectl("exec", f"--namespace={namespace}", "deploy/sample-app", "--", "python3", "-c", code)

    async with chromium(f"{url}/", folder) as tab:
        await asyncio.to_thread(publish, cluster, namespace, "tasks=2000&batches=1&task=sleep&ms=10")
        await asyncio.sleep(REST_SECONDS + 30)
        for count, queue, ms, countdown in (
            (300, "mail", 150, 0),
            (700, "search", 100, 0),
            (12, "reports", 3000, 0),
            (5, "mail", 10, 1800),
        ):
            await asyncio.to_thread(send, count, queue, ms, countdown)
        flood = "tasks=4000&batches=1&task=sleep&ms=10"
        publishing = asyncio.create_task(asyncio.to_thread(publish, cluster, namespace, flood))
        await asyncio.sleep(14)
        await _take(tab, f"{url}/", "fleet-light", "light", WIDE)
        await _take(tab, f"{url}/", "fleet-dark", "dark", WIDE)
        await _take(tab, f"{url}/", "fleet-phone", "light", PHONE)
        await publishing
        await _emptied(tab, url)
        await asyncio.sleep(REST_SECONDS)
        tall = (WIDE[0], 1180)
        await _take(tab, f"{url}/pools/default", "pool-light", "light", tall, opened=True)
        await _take(tab, f"{url}/pools/default", "pool-dark", "dark", tall, opened=True)
        await _take(tab, f"{url}/pools/default", "pool-phone", "dark", (PHONE[0], 1500))
        return tab.complaints


async def _emptied(tab: Tab, url: str) -> None:
    await tab.open(f"{url}/pools/default")
    queued = "[...document.querySelectorAll('dt')].find((term) => term.textContent === 'Queued')"
    await tab.until(f"{queued}?.nextElementSibling.textContent === '0'", seconds=240)


async def _take(
    tab: Tab, url: str, name: str, scheme: str, size: tuple[int, int], *, opened: bool = False
) -> None:
    say(f"docs/page/{name}.png")
    await tab.prefer(scheme)
    await tab.resize(*size)
    await tab.open(url)
    await tab.until("document.querySelector('#rows tr, #log li') !== null")
    if opened:
        await tab.evaluate("document.querySelector('#log li.scaled summary')?.click()")
    await asyncio.sleep(3)  # a tick or two
    await tab.screenshot(FOLDER / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
