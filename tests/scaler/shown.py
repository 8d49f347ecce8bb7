"""A scaler amid fakes whose telemetry, metrics and page are the real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from scaler.cluster.objects import ClusterFailure, Kind
from scaler.loop import Loop
from scaler.metrics import Metrics
from scaler.telemetry import Telemetry
from scaler.web.board import Board
from scaler.web.links import Links
from scaler.web.server import serve
from tests.conftest import free_port
from tests.scaler.fake_workers import FakeWorkers
from tests.scaler.fakes import FakeBroker, FakeCluster, FakeLease
from tests.scaler.samples import AT
from tests.scaler.stage import AT_ONCE


@dataclass(slots=True)
class Shown:
    """Its clock goes by the poll, so an hour takes as long as its ticks."""

    broker: FakeBroker = field(default_factory=FakeBroker)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    lease: FakeLease = field(default_factory=FakeLease)
    metrics: Metrics = field(default_factory=lambda: Metrics(started_at=AT))
    board: Board = field(default_factory=lambda: Board("shop", 2.0))
    at: float = AT
    alive: bool = True
    workers: FakeWorkers = field(init=False)
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        self.workers = FakeWorkers(self.cluster, lambda: self.at)
        log = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger("CRITICAL"))
        self.loop = Loop(
            broker=self.broker,
            control=self.workers,
            ear=self.workers,
            cluster=self.cluster,
            lease=self.lease,
            telemetry=Telemetry(log, self.metrics, self.board),
            poll_seconds=2,
            clock=lambda: self.at,
        )

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.at += 2
            await self.loop.tick(self.at)

    async def live(self) -> None:
        """A life in which each metric gets a series: load, calm, drains, holds, an outage, a refusal."""
        self.cluster.add("sums", replicas=2, behavior=AT_ONCE)
        await self.tick()
        self.broker.lengths["sums"] = 900
        await self.tick(5)
        self.broker.lengths["sums"] = 0
        await self.tick(10)
        self.cluster.refuse["scale"] = ClusterFailure(Kind.CONFLICT, "changed")
        self.broker.lengths["sums"] = 900
        await self.tick(2)
        self.cluster.refuse.clear()
        self.metrics.requested("patch", "deployments/scale", "409")
        self.broker.goes_away()
        await self.tick()
        self.broker.comes_back()
        await self.tick(5)
        self.broker.lengths["sums"] = 0
        await self.tick(2)

    @asynccontextmanager
    async def served(self, links: Links | None = None, *, port: int = 0) -> AsyncIterator[str]:
        """The server's address, without a slash at its end."""
        port = port or free_port()
        runner = await serve(
            self.board,
            self.metrics.registry,
            lambda: self.alive,
            host="127.0.0.1",
            port=port,
            links=links,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()
