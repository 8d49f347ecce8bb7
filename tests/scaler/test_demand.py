"""The demand beside what was published and finished, with real workers on a real broker.

Three pools share one broker and one scaler, a worker each: prefork, threads and gevent. Twenty and more
ticks at random moments of 200 tasks a pool; the ledger is outside the broker.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from scaler.broker.rabbitmq_queues import STALE_SECONDS
from scaler.broker.redis_layout import Layout
from scaler.loop import Loop
from scaler.pool.count import Count
from scaler.workers.control import WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Link
from tests.scaler.brokers import Place
from tests.scaler.fakes import FakeCluster, FakeLease, FakeTelemetry
from tests.scaler.workers import CeleryWorkers

SLOTS = {"prefork": 2, "threads": 8, "gevent": 8}
"""By kind of pool. Threads and gevent take a message a second and slot where they may hold no more than
they run (celery/celery 5.7, measured), so with two slots 200 tasks would take 100 s."""
TASKS = 200
READS = 20


class Read(NamedTuple):
    at: float
    demand: Count
    least: int
    """What was left at least and at most while it was read."""
    most: int


@dataclass(slots=True)
class Ledger:
    """What was published and finished of one pool."""

    path: Path
    begun: int = 0
    published: int = 0
    """Less than `begun` by the one that is being sent."""
    since: float = 0.0
    """When the first one was."""
    reads: list[Read] = field(default_factory=list)

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
    cluster: FakeCluster, place: Place, link: Link, tmp_path: Path
) -> AsyncIterator[tuple[Loop, FakeTelemetry]]:
    broker = place.reader(tmp_path)
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
    await broker.close()


REDIS = [
    pytest.param("redis", late, arguments, prefetched, id=f"redis, {ack}, {many}")
    for late, ack in ((False, "early ack"), (True, "acks_late"))
    for arguments, prefetched, many in (
        (("--prefetch-multiplier", "1"), 1, "prefetch 1"),
        (("--prefetch-multiplier", "4"), 4, "prefetch 4"),
        (("--disable-prefetch",), 0, "no prefetch"),
    )
]
RABBITMQ = [
    pytest.param(
        kind,
        late,
        ("--prefetch-multiplier", str(many)),
        many,
        id=f"{kind}, {ack}, prefetch {many}",
        # Two of the eight show each kind of queue, of acknowledgement and of prefetch.
        marks=() if (kind, late, many) in (("quorum", True, 1), ("classic", False, 4)) else pytest.mark.slow,
    )
    for kind in ("classic", "quorum")
    for late, ack in ((False, "early ack"), (True, "acks_late"))
    for many in (1, 4)
]


@pytest.mark.parametrize(
    ("place", "acks_late", "arguments", "prefetched"), [*REDIS, *RABBITMQ], indirect=["place"]
)
async def test_demand_is_what_is_published_and_not_finished(
    cluster: FakeCluster,
    observing: tuple[Loop, FakeTelemetry],
    workers: CeleryWorkers,
    place: Place,
    tmp_path: Path,
    acks_late: bool,
    arguments: Sequence[str],
    prefetched: int,
) -> None:
    """What is certain of it is off by no more than the messages in motion; it is never 0 while work is left.

    What is not certain are tasks that run: whether they are acknowledged is asked only where it matters.
    RabbitMQ shows no message that workers hold, so there those are not certain either until it is asked.
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
        working = [seen for seen in ledger.reads if seen.most]
        slots = SLOTS[kind]
        motion = (prefetched + 1) * slots
        off = [max(seen.least - seen.demand.low, seen.demand.low - seen.most, 0) for seen in working]
        print(f"{kind}: {len(working)} reads, off by at most {max(off)} where {motion} are in motion")
        assert len(working) >= READS, kind
        assert max(off) <= motion, (kind, working)
        for seen in working:
            demand = seen.demand
            # After a rest the first tasks, taken at once, show in the next heartbeat, or in the next table.
            rested = place.kind == "quorum" and seen.at < ledger.since + STALE_SECONDS
            assert not seen.least or demand.high != 0 or rested, (kind, seen)
            if demand.high is None and place.kind == "quorum":
                continue  # what workers hold is not bounded until RabbitMQ's table shows them once
            assert demand.high is not None, kind
            assert demand.high >= seen.least - motion, (kind, seen)
            if place.kind == "quorum":
                recent = [other.most for other in working if 0 <= seen.at - other.at < STALE_SECONDS + 1]
                assert demand.high <= max(recent) + slots + motion, (kind, seen)
            else:
                open_to_question = slots if place.kind == "redis" else slots + motion
                assert demand.high - demand.low <= open_to_question, (kind, seen)


def publish(workers: CeleryWorkers, ledgers: Mapping[str, Ledger]) -> None:
    """Half at once, the rest while the workers are at it."""
    chance = random.Random(7)
    for number in range(TASKS):
        for kind, ledger in ledgers.items():
            seconds = SLOTS[kind] / 2 * 10 ** chance.uniform(-2, -0.8)
            ledger.since = ledger.since or time.time()
            ledger.begun += 1
            workers.app.send_task("worker_app.work", (seconds, str(ledger.path)), queue=kind)
            ledger.published += 1
        if number > TASKS / 2:
            time.sleep(0.01)


async def read(loop: Loop, telemetry: FakeTelemetry, ledgers: Mapping[str, Ledger]) -> None:
    at = time.time()
    before = {kind: (ledger.published, ledger.finished) for kind, ledger in ledgers.items()}
    await loop.tick(time.time())
    for kind, ledger in ledgers.items():
        published, finished = before[kind]
        least, most = published - ledger.finished, ledger.begun - finished
        ledger.reads.append(Read(at, telemetry.reports[kind].demand, max(0, least), most))
