"""What the page costs: `python -m bench.page`. An hour of ticks as fast as they go, with and without it.

It owns the table: memory that an hour of history adds to a process, what pages that are open for all that
hour add to it, whom the process calls meanwhile, and the time that a tick takes. The board is fed as the
scaler's telemetry feeds it, every pool busy: figures that change in each tick, a decision that changes
something every minute. Each row is a process of its own; one of 1,000 pools takes minutes.

It asserts nothing. The memory of a whole scaler and what it asks of the API server, with and without a page,
are in `bench.scaler`, which wants a cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client import CollectorRegistry

from bench.memory import megabytes_in
from scaler.cluster.objects import Deployment
from scaler.contract import Ready
from scaler.pool.count import Count
from scaler.pool.decision import Decision, Memory, Observation, decide
from scaler.pool.flow import Flow
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.web.board import Board
from scaler.web.server import serve
from tests.conftest import free_port
from tests.scaler.fakes import FakeCluster
from tests.scaler.samples import AT, observation

TICKS = 1800
POOLS: Final = (1, 1000)
PAGES: Final = (0, 1, 10)
LIMIT_MEGABYTES: Final = 10
POLL_SECONDS = 2.0
ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ticks", type=int, default=TICKS, help=f"default: {TICKS}, an hour")
    parser.add_argument("--pools", type=int, nargs="+", default=POOLS, help="default: 1 and 1000")
    parser.add_argument(
        "--one", nargs=2, type=int, metavar=("POOLS", "PAGES"), help="one row, in this process"
    )
    options = parser.parse_args(arguments)
    if options.one:
        pools, pages = options.one
        print(json.dumps(asdict(asyncio.run(_hour(pools, pages, options.ticks)))))
        return 0
    print(f"{'pools':>6} {'pages':>6} {'added in an hour':>18} {'a tick, mean':>14} {'points of a pool':>18}")
    for pools in options.pools:
        hours = {pages: _measured(pools, pages, options.ticks) for pages in PAGES}
        for pages, hour in hours.items():
            print(
                f"{pools:>6} {pages:>6} {hour.megabytes:>15.1f} MB {hour.milliseconds:>11.2f} ms "
                f"{hour.points:>18}",
                flush=True,
            )
        for pages in PAGES[1:]:
            more = hours[pages].megabytes - hours[0].megabytes
            print(
                f"  {pages} open: {more:+.1f} MB, limit {LIMIT_MEGABYTES} MB; "
                f"{hours[pages].calls} connections made by the process, limit 0",
                flush=True,
            )
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    megabytes: float
    milliseconds: float
    """Of a tick."""
    points: int
    """Of one pool's chart."""
    calls: int
    """Connections that the process made, but for the one by which this program reads the page."""


def _measured(pools: int, pages: int, ticks: int) -> Hour:
    command = [sys.executable, "-m", "bench.page", "--ticks", str(ticks), "--one", str(pools), str(pages)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Hour(**json.loads(done.stdout))


async def _hour(pools: int, pages: int, ticks: int) -> Hour:
    board = Board("bench", POLL_SECONDS)
    cluster = FakeCluster()
    followed = [Pool(cluster.add(f"pool-{number}")) for number in range(pools)]
    deployments = [cluster.deployments[f"pool-{number}-celery-worker"] for number in range(pools)]
    port = free_port()
    runner = await serve(board, CollectorRegistry(), lambda: True, host="127.0.0.1", port=port)
    random.seed(1)
    calls: list[int] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and arguments[1][1] != port:
            calls.append(arguments[1][1])

    sys.addaudithook(hear)
    _tick(board, followed, deployments, AT)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
        before = _megabytes()
        # The readers are processes of their own, as browsers are.
        readers = [_reader(port, number) for number in range(pages)]
        spent = 0.0
        for number in range(1, ticks + 1):
            begin = time.perf_counter()
            _tick(board, followed, deployments, AT + POLL_SECONDS * number)
            spent += time.perf_counter() - begin
            # Time for the streams to be written, less than a poll: readers may skip ticks, as slow ones do.
            await asyncio.sleep(0.02 if pages else 0)
        async with session.get("/pools/pool-0") as answer:
            points = len((await answer.json())["history"]["at"])
        after = _megabytes()
    for reader in readers:
        reader.kill()
        reader.wait()
    await runner.cleanup()
    return Hour(megabytes=after - before, milliseconds=spent / ticks * 1e3, points=points, calls=len(calls))


def _reader(port: int, number: int) -> subprocess.Popen[bytes]:
    path = "/" if number % 2 == 0 else "/pools/pool-0"
    code = (
        f"import urllib.request as u; [0 for _ in u.urlopen('http://127.0.0.1:{port}{path}?format=events')]"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def _tick(board: Board, pools: list[Pool], deployments: list[Deployment], at: float) -> None:
    board.reads.append(0.004)
    for pool, deployment in zip(pools, deployments, strict=True):
        policy, scaled = pool.policy, False
        assert policy is not None
        seen: Observation = observation(random.randrange(900), at=at, replicas=4)
        decision, pool.memory = decide(policy, seen, pool.memory)
        if int(at) % 60 == hash(pool.name) % 60 // 2 * 2:
            decision = replace(decision, desired_replicas=4 + int(at) % 3)
            scaled = decision.desired_replicas != 4
        board.judged(pool, _report(seen, decision, pool.memory), deployment)
        if scaled:
            board.scaled(pool, 4, decision.desired_replicas)
    board.ticked(at, seconds=0.01, trouble=None, leading=True)


def _report(seen: Observation, decision: Decision, memory: Memory) -> Report:
    return Report(
        generation=1,
        ready=Ready.WATCHING,
        ready_message="well",
        replicas=4,
        queued=seen.queued,
        unacked=Count.exactly(random.randrange(9)),
        decision=decision,
        memory=memory,
        observation=seen,
        demand=seen.demand,
        active=random.randrange(9),
        flow=Flow(at=seen.at, begun_per_second=random.random(), arrivals_per_second=random.random()),
    )


def _megabytes() -> float:
    return megabytes_in(Path("/proc/self/status").read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
