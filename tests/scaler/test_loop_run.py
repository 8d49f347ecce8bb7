"""Starting, outliving and leaving: what surrounds the ticks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from scaler.cluster.objects import ClusterFailure, Kind
from tests.scaler.fakes import FakeBroker, FakeCluster, FakeLease
from tests.scaler.samples import AT
from tests.scaler.stage import Stage, failure, until


async def test_run_stops_at_once_and_gives_the_lease_back() -> None:
    """SIGTERM: within a second, and the next scaler need not wait."""
    stage = Stage(at=AT + 1)
    stage.cluster.add()
    stop = asyncio.Event()
    running = asyncio.create_task(stage.loop.run(stop))
    await until(lambda: len(stage.cluster.writes) >= 2)
    begin = time.monotonic()
    stop.set()
    await running

    assert stage.lease.released
    assert time.monotonic() - begin < 1


async def test_run_outlives_every_exception() -> None:
    """No exception leaves the loop: it is told, and the next tick comes."""
    stage = Stage(at=AT + 1)
    stage.cluster.add()
    stage.broker = _BrokenBroker()
    stage.lease = _BrokenLease()
    stage.cluster = _BrokenCluster(celeries=stage.cluster.celeries, deployments=stage.cluster.deployments)
    stage.restart()
    stop = asyncio.Event()
    running = asyncio.create_task(stage.loop.run(stop))
    await until(lambda: {str(error) for error in stage.telemetry.crashes} >= {"broker", "lease", "watch"})
    alive = stage.loop.alive()
    stop.set()
    await running

    assert alive


class _BrokenBroker(FakeBroker):
    async def read(self, queues: object, at: float) -> Any:  # noqa: ARG002  # the Protocol's form
        raise RuntimeError("broker")


class _BrokenLease(FakeLease):
    async def keep(self, at: float) -> None:  # noqa: ARG002  # the Protocol's form
        raise RuntimeError("lease")


class _BrokenCluster(FakeCluster):
    async def follow(self) -> None:
        raise RuntimeError("watch")


def test_alive_is_the_age_of_the_last_tick() -> None:
    """/healthz looks at the loop alone: ten seconds without a tick are too many."""
    stage = Stage()
    stage.at = AT + 9.9
    young = stage.loop.alive()
    stage.at = AT + 10

    assert (young, stage.loop.alive()) == (True, False)


async def test_once_ticks_and_leaves() -> None:
    """`--once` holds the lease for one tick and tells whether all is well."""
    stage = Stage()
    stage.cluster.add()
    stage.broker.lengths["sums"] = 400
    well = await stage.loop.once()
    stage.broker.goes_away()
    ill = await stage.loop.once()

    assert (well, ill) == (True, False)
    assert stage.cluster.replicas() == 4
    assert stage.lease.released


async def test_unread_namespace_is_no_tick(stage: Stage) -> None:
    """Before the first lists have come there is nothing to decide about."""
    stage.cluster.unread = failure(Kind.NOT_READ_YET)

    with pytest.raises(ClusterFailure):
        await stage.loop.tick(AT)
