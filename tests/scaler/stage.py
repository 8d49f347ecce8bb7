"""A loop with its surroundings, and a clock that goes by the poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from scaler.cluster.objects import ClusterFailure, Kind
from scaler.loop import Loop
from tests.scaler.fake_workers import FakeWorkers
from tests.scaler.fakes import FakeBroker, FakeCluster, FakeLease, FakeTelemetry
from tests.scaler.samples import AT

AT_ONCE = {"scaleDown": {"stabilizationWindowSeconds": 0}}


TWO_A_MINUTE = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
    "scaleDown": {"stabilizationWindowSeconds": 0},
}


@dataclass(slots=True)
class Stage:
    """A loop with its surroundings, and a clock that goes by the poll."""

    broker: FakeBroker = field(default_factory=FakeBroker)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    lease: FakeLease = field(default_factory=FakeLease)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    at: float = AT
    handshake: bool = True
    workers: FakeWorkers = field(init=False)
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        self.workers = FakeWorkers(self.cluster, lambda: self.at)
        self.restart()

    def restart(self) -> None:
        """A new scaler that knows what the cluster knows."""
        self.telemetry = FakeTelemetry()
        self.loop = Loop(
            broker=self.broker,
            control=self.workers,
            ear=self.workers,
            cluster=self.cluster,
            lease=self.lease,
            telemetry=self.telemetry,
            poll_seconds=2,
            handshake=self.handshake,
            clock=lambda: self.at,
        )

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.at += 2
            await self.loop.tick(self.at)
            assert self.telemetry.crashes == []

    async def settle(self) -> None:
        """Tick until nothing is written for longer than any calm."""
        for _ in range(100):
            before = len(self.cluster.writes)
            await self.tick(40)
            if len(self.cluster.writes) == before:
                self.cluster.writes.clear()
                return
        raise AssertionError(f"still writing: {self.cluster.writes[-5:]}")


def failure(kind: Kind, sentence: str = "no", seconds: float = 0) -> ClusterFailure:
    return ClusterFailure(kind, sentence, seconds)


async def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
