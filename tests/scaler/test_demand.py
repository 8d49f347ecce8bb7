"""The demand beside what was published and finished, with real workers on a real redis-server.

Three pools share one database and one scaler, a worker each: prefork, threads and gevent. Twenty and more
ticks at random moments of 200 tasks a pool; the ledger is outside the broker.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.loop import Loop
from scaler.pool.count import Count
from scaler.workers.control import WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Link
from tests.scaler.fakes import FakeCluster, FakeLease, FakeTelemetry
from tests.scaler.workers import CeleryWorkers

SLOTS = {"prefork": 2, "threads": 8, "gevent": 8}
"""By kind of pool. Threads and gevent take a message a second and slot where they may hold no more than
they run (celery/celery 5.7, measured), so with two slots 200 tasks would take 100 s."""
TASKS = 200
READS = 20


@dataclass(slots=True)
class Ledger:
    """What was published and finished of one pool."""

    path: Path
    begun: int = 0
    published: int = 0
    """Less than `begun` by the one that is being sent."""
    reads: list[tuple[Count, int, int]] = field(default_factory=list)
    """The demand, and what was left at least and at most while it was read."""

    @property
    def finished(self) -> int:
        return self.path.stat().st_size


@pytest.fixture
def cluster() -> FakeCluster:
    """One pod a pool, whose worker is a process here."""
    found = FakeCluster()
    for kind, slots in SLOTS.items():
        made = found.add(kind, replicas=1, minReplicas=1, maxReplicas=1)
        assert made.policy is not None
        found.celeries[kind] = replace(made, policy=replace(made.policy, concurrency=slots))
    found.snapshot()
    return found


@pytest.fixture
async def observing(
    cluster: FakeCluster, broker: BrokerByUrl, url_file: Path
) -> AsyncIterator[tuple[Loop, FakeTelemetry]]:
    link = Link(url_file=UrlFile(url_file), name="demand")
    control, listener, telemetry = WorkerControl(link), HeartbeatListener(link), FakeTelemetry()
    listener.start()
    yield (
        Loop(
            broker=broker,
            control=control,
            ear=listener,
            cluster=cluster,
            lease=FakeLease(),
            telemetry=telemetry,
            poll_seconds=2,
            visibility_seconds=Layout().visibility_seconds,
        ),
        telemetry,
    )
    await control.close()
    await asyncio.to_thread(listener.close)


@pytest.mark.parametrize("acks_late", [False, True], ids=["early ack", "acks_late"])
@pytest.mark.parametrize(
    ("arguments", "prefetched"),
    [
        pytest.param(["--prefetch-multiplier", "1"], 1, id="prefetch 1"),
        pytest.param(["--prefetch-multiplier", "4"], 4, id="prefetch 4"),
        pytest.param(["--disable-prefetch"], 0, id="no prefetch"),
    ],
)
async def test_demand_is_what_is_published_and_not_finished(
    cluster: FakeCluster,
    observing: tuple[Loop, FakeTelemetry],
    workers: CeleryWorkers,
    tmp_path: Path,
    acks_late: bool,
    arguments: list[str],
    prefetched: int,
) -> None:
    """What is certain of it is off by no more than the messages in motion; it is never 0 while work is left.

    What is not certain are tasks that run: whether they are acknowledged is asked only where it matters.
    """
    loop, telemetry = observing
    ledgers = {kind: Ledger(tmp_path / f"{kind}.ledger") for kind in SLOTS}
    for kind, ledger in ledgers.items():
        ledger.path.touch()
        (pod,) = cluster.pods[f"{kind}-celery-worker"]
        settings = {"task_acks_late": acks_late}
        workers.start(
            "worker", *arguments, host=pod.name, pool=kind, queues=kind, slots=SLOTS[kind], settings=settings
        )

    async def ready() -> bool:
        await loop.tick(time.time())
        return all(report.capacity == SLOTS[kind] for kind, report in telemetry.reports.items())

    await workers.until("all workers are heard", ready)
    publishing = threading.Thread(target=publish, args=(workers, ledgers))
    publishing.start()
    while publishing.is_alive() or any(ledger.finished < TASKS for ledger in ledgers.values()):
        await asyncio.sleep(random.uniform(0, 0.2))
        await read(loop, telemetry, ledgers)
    publishing.join()

    async def nothing() -> bool:
        await loop.tick(time.time())
        return all(report.demand == Count(0, 0) for report in telemetry.reports.values())

    await workers.until("the demand is 0 once all is finished", nothing)
    assert telemetry.crashes == []
    for kind, ledger in ledgers.items():
        working = [seen for seen in ledger.reads if seen[2]]
        slots = SLOTS[kind]
        motion = (prefetched + 1) * slots
        off = [max(least - demand.low, demand.low - most, 0) for demand, least, most in working]
        print(f"{kind}: {len(working)} reads, off by at most {max(off)} where {motion} are in motion")
        assert len(working) >= READS, kind
        assert max(off) <= motion, (kind, working)
        for demand, least, most in working:
            assert demand.high is not None, kind
            assert demand.high - demand.low <= slots, (kind, demand)
            assert demand.high >= least - motion, (kind, demand, least, most)
            assert not least or demand.high > 0, (kind, demand, least, most)


def publish(workers: CeleryWorkers, ledgers: Mapping[str, Ledger]) -> None:
    """Half at once, the rest while the workers are at it."""
    chance = random.Random(7)
    for number in range(TASKS):
        for kind, ledger in ledgers.items():
            seconds = SLOTS[kind] / 2 * 10 ** chance.uniform(-2, -0.8)
            ledger.begun += 1
            workers.app.send_task("worker_app.work", (seconds, str(ledger.path)), queue=kind)
            ledger.published += 1
        if number > TASKS / 2:
            time.sleep(0.01)


async def read(loop: Loop, telemetry: FakeTelemetry, ledgers: Mapping[str, Ledger]) -> None:
    before = {kind: (ledger.published, ledger.finished) for kind, ledger in ledgers.items()}
    await loop.tick(time.time())
    for kind, ledger in ledgers.items():
        published, finished = before[kind]
        least, most = published - ledger.finished, ledger.begun - finished
        ledger.reads.append((telemetry.reports[kind].demand, max(0, least), most))
