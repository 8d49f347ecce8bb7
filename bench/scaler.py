"""The scaler's own figures, measured here: `python -m bench.scaler [--seconds N] [--objects N]`.

It owns the table: queue lengths against a real redis-server, the cost of deciding and of simulating, and on a
real cluster (`KUBECONFIG`, else devcluster's where it is up) the memory of a scaler process and what it asks
of the API server while idle. Where there is no cluster it says so, and gives no figure.

It asserts nothing: a busy machine may miss a limit. From flood to `/scale` is measured in `bench.flood`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from bench.memory import megabytes_in
from scaler import contract
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.contract import Env
from scaler.pool.decision import Memory, decide
from scaler.simulate.contender import PLAIN_SPEC, contender_of
from scaler.simulate.load import made
from scaler.simulate.race import race
from scaler.simulate.site import Workers
from tests.conftest import Kubectl, RedisServer, free_port
from tests.definition import define
from tests.scaler.samples import observation, policy, spec

ROOT = Path(__file__).parents[1]
QUEUES = 1000
READS = 300


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    measured: str
    limit: str = ""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaler", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seconds", type=int, default=120, help="how long to watch an idle scaler")
    parser.add_argument("--objects", type=int, default=1000, help="how many Celery objects are many")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(free_port(), Path(folder))
        server.start()
        try:
            figures = [
                *lengths(server),
                decision(),
                simulation(),
                *on_cluster(server, options.seconds, options.objects),
            ]
        finally:
            server.stop()
    width = max(len(figure.what) for figure in figures)
    for figure in figures:
        print(f"{figure.what:{width}}  {figure.measured:>24}  {figure.limit}")
    return 0


def lengths(server: RedisServer) -> list[Figure]:
    """One tick's read of 1,000 queues with four lists each, then the same with 10,000 unacknowledged."""
    layout = Layout()
    queues = [f"queue-{number}" for number in range(QUEUES)]
    with Redis.from_url(server.url) as redis, redis.pipeline(transaction=False) as pipe:
        for queue in queues:
            for key in layout.lists_of(queue):
                pipe.lpush(key, *["x"] * random.randrange(1, 20))  # a load, no secret
        pipe.execute()
        plain = asyncio.run(_read_times(server, queues))
        body = json.dumps(["m" * 500, "", "queue-1"])
        redis.hset("unacked", mapping={str(uuid.uuid4()): body for _ in range(10_000)})
        held = asyncio.run(_read_times(server, queues))
        redis.flushall()
    return [
        Figure(f"read of {QUEUES} queues x 4 lists, p50 / p99", _milliseconds(plain), "p99 <= 50 ms"),
        Figure("the same with 10,000 unacknowledged", _milliseconds(held)),
    ]


async def _read_times(server: RedisServer, queues: list[str]) -> list[float]:
    url_file = server.folder / "url"
    url_file.write_text(server.url)  # before anything runs beside it
    broker = BrokerByUrl(UrlFile(url_file), Layout())
    times = []
    for number in range(READS + 5):
        begin = time.perf_counter()
        await broker.read(queues, time.time())
        if number >= 5:  # connecting, and bodies that are read once
            times.append(time.perf_counter() - begin)
    await broker.close()
    return times


def _milliseconds(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"{cuts[49] * 1e3:.1f} / {cuts[98] * 1e3:.1f} ms"


def decision() -> Figure:
    given, memory, times = policy(), Memory(), 20_000
    begin = time.perf_counter()
    for number in range(times):
        _, memory = decide(given, observation(number % 900, at=1e9 + number * 2), memory)
    return Figure("one decision", f"{(time.perf_counter() - begin) / times * 1e6:.1f} µs")


def simulation() -> Figure:
    """A recorded-size hour: 100,000 tasks for up to 20 workers, under our policy."""
    load = made("poisson:rate=28,service=0.6", 1)
    keys = {"minReplicas": "2", "maxReplicas": "20", "averageValue": "20"}
    contender = contender_of("ours", PLAIN_SPEC, keys)
    begin = time.perf_counter()
    race(load, [contender], Workers(), seed=1)
    seconds = time.perf_counter() - begin
    return Figure(f"an hour simulated, {len(load.arrivals):,} tasks, 20 pods", f"{seconds:.2f} s", "<= 2 s")


def on_cluster(server: RedisServer, seconds: int, objects: int) -> list[Figure]:
    kubectl = _cluster()
    if kubectl is None:
        return [Figure("memory, idle requests", "not measured", "no cluster: KUBECONFIG, or devcluster up")]
    define(kubectl)
    figures = []
    for number in (1, objects):
        with _namespace(kubectl) as namespace, _pools(kubectl, namespace, number):
            figures += _life(kubectl, server, namespace, number, seconds)
    return figures


def _cluster() -> Kubectl | None:
    found = os.environ.get("KUBECONFIG")
    if not found:
        command = [sys.executable, "-m", "tests.devcluster", "kubeconfig"]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    program = shutil.which("kubectl")
    if not program or not found or not Path(found).exists():
        return None
    kubectl = Kubectl(Path(found), program)
    return kubectl if "ok" in kubectl("get", "--raw", "/readyz", check=False) else None


@contextmanager
def _namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@contextmanager
def _pools(kubectl: Kubectl, namespace: str, number: int) -> Iterator[None]:
    """So many pools that sleep: objects with their Deployments, and no pod."""
    items = [item for index in range(number) for item in _pool(f"pool-{index}")]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    kubectl("-n", namespace, "create", "-f", "-", stdin=text)
    yield


def _pool(name: str) -> list[dict[str, Any]]:
    wanted = spec(minReplicas=0)
    wanted["common"]["appName"] = name
    wanted["workerSpec"]["queues"] = f"{name},{name}-slow"
    labels = {"app": name}
    container = {"name": "worker", "image": "none"}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": contract.worker_deployment_name(name)},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": contract.API_VERSION,
            "kind": contract.KIND,
            "metadata": {"name": name},
            "spec": wanted,
        },
    ]


def _life(kubectl: Kubectl, server: RedisServer, namespace: str, number: int, seconds: int) -> list[Figure]:
    """Memory once every object is reported on, and what is asked of the API server from then on."""
    port, url_file = free_port(), server.folder / "url"
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubectl.kubeconfig),
        Env.NAMESPACE: namespace,
        Env.POD_NAME: "bench",
        Env.BROKER_URL_FILE: str(url_file),
    }
    code = f"import runpy, scaler.contract; scaler.contract.HTTP_PORT = {port}; "
    code += "runpy.run_module('scaler', run_name='__main__')"
    with (server.folder / "scaler.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, stdout=log, stderr=log
        )
        try:
            _settle(port, number)
            asked, memory = _watch(port, process.pid, seconds)
            with _open_page(port):
                asked_by_page, memory_with_page = _watch(port, process.pid, seconds)
        finally:
            told = time.monotonic()
            process.terminate()
            process.wait()
            ended = time.monotonic() - told
    total = sum(asked.values())
    leases = sum(count for (_, resource), count in asked.items() if resource == "leases")
    by_page = sum(asked_by_page.values())
    title = f"{number} object{'s' if number > 1 else ''}"
    return [
        Figure(
            f"memory of the process, {title}", f"{memory:.1f} MB", "<= 85 MB" if number == 1 else "<= 110 MB"
        ),
        Figure(f"idle for {seconds} s, {title}: requests", f"{total / seconds:.2f} /s", "<= 0.6 /s"),
        Figure(f"idle for {seconds} s, {title}: Lease", f"each {seconds / max(leases, 1):.1f} s", ">= 5 s"),
        Figure(f"idle for {seconds} s, {title}: other writes", f"{_writes(asked):.0f}", "0"),
        Figure(
            f"both pages open, {title}: memory", f"{memory_with_page - memory:+.1f} MB", "<= 10 MB in an hour"
        ),
        Figure(f"both pages open, {title}: requests", f"{by_page / seconds:.2f} /s", "as idle"),
        Figure(f"from SIGTERM to the end, {title}", f"{ended:.2f} s", "<= 1 s"),
    ]


Requests = dict[tuple[str, str], float]
"""How often, by verb and resource."""


def _watch(port: int, process: int, seconds: int) -> tuple[Requests, float]:
    """What was asked in so many seconds, and the memory at their end, in MB."""
    before = _requests(port)
    time.sleep(seconds)
    after = _requests(port)
    memory = megabytes_in(Path(f"/proc/{process}/status").read_text())
    asked = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    return asked, memory


@contextmanager
def _open_page(port: int) -> Iterator[None]:
    """The fleet's page and a pool's, each read in a process of its own, as by a browser."""
    readers = []
    for path in ("/", "/pools/pool-0"):
        url = f"http://127.0.0.1:{port}{path}?format=events"
        code = f"import urllib.request as u; [0 for _ in u.urlopen({url!r})]"
        readers.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL))
    try:
        yield
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def _settle(port: int, number: int) -> None:
    """Wait until every pool is reported on and nothing but the Lease was written for ten seconds."""
    deadline = time.monotonic() + 400
    quiet_since, written = time.monotonic(), -1.0
    while time.monotonic() < quiet_since + 10 or written < number:
        if time.monotonic() > deadline:
            raise SystemExit(f"still writing after 400 s: {written:.0f} writes for {number} objects")
        now = _quietly(lambda: _writes(_requests(port)))
        if now != written:
            quiet_since, written = time.monotonic(), now
        time.sleep(0.5)


def _writes(requests: Requests) -> float:
    """All but the Lease's."""
    verbs = ("create", "update", "patch")
    return sum(times for (verb, what), times in requests.items() if verb in verbs and what != "leases")


def _quietly(read: Callable[[], float]) -> float:
    try:
        return read()
    except OSError:
        return -1.0


def _requests(port: int) -> Requests:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Requests = {}
    pattern = r'celery_fleet_api_requests_total\{code="\w+",resource="([^"]+)",verb="(\w+)"\} (\S+)'
    for resource, verb, value in re.findall(pattern, text):
        found[verb, resource] = found.get((verb, resource), 0) + float(value)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
