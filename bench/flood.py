"""From a flood's first task to the accepted `/scale` write: `python -m bench.flood [--floods N]`.

It deploys a stack, floods it again and again at a random moment of the scaler's poll, and reads the
write's time from the API server's audit log. Then the stack is left alone, and what the scaler asks of
the API server while there is nothing to do is counted in the same log.

It asserts nothing: a busy machine may miss a limit. What needs no stack is in `bench.scaler`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.audit import AuditLog, Request
from bench.memory import resident_megabytes
from demo import cluster as clusters
from demo import images, rendered
from demo.cluster import Cluster
from demo.flood import Pool, only_pool, publish, wait_until_idle
from scaler.contract import SCALER_NAME
from tests.e2e.stack import settings_of

POLL_SECONDS = 2
LIMIT_SECONDS = POLL_SECONDS + 0.5
FLOOD = "tasks=1000&batches=1&task=sleep&ms=10"
DOWN_AT_ONCE = '{"scaleDown": {"stabilizationWindowSeconds": 0}}'
WRITTEN_SECONDS = 30
WRITES = ("create", "update", "patch", "delete")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--floods", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=120, help="how long to watch an idle stack")
    options = parser.parse_args(arguments)
    with _stack() as (cluster, pool):
        times = [_flood(cluster, pool) for _ in range(options.floods)]
        wait_until_idle(cluster, pool)
        memory = resident_megabytes(cluster, pool.namespace, SCALER_NAME)
        asked = _idle(pool, options.seconds)
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    leases = sum(request.resource == "leases" for request in asked)
    writes = sum(request.verb in WRITES and request.resource != "leases" for request in asked)
    rows = [
        (
            f"first task to accepted /scale, {len(times)} floods, p50 / p95 / max",
            f"{statistics.median(times):.2f} / {cuts[-1]:.2f} / {max(times):.2f} s",
            f"p95 <= {LIMIT_SECONDS} s",
        ),
        ("memory of the scaler in its pod, 1 object", f"{memory:.1f} MB", "<= 85 MB"),
        (f"idle for {options.seconds} s: requests", f"{len(asked) / options.seconds:.2f} /s", "<= 0.6 /s"),
        (f"idle for {options.seconds} s: Lease", f"{leases}", f"<= {options.seconds // 5}"),
        (f"idle for {options.seconds} s: other writes", f"{writes}", "0"),
    ]
    for what, measured, limit in rows:
        print(f"{what:66} {measured:>22}   {limit}")
    return 0


@contextmanager
def _stack() -> Iterator[tuple[Cluster, Pool]]:
    """A stack of its own that shrinks as soon as there is nothing to do."""
    cluster = clusters.find_or_make()
    built = images.build_and_load(cluster, "")
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    settings = {**settings_of(namespace, built), "behavior": DOWN_AT_ONCE, "pollSeconds": str(POLL_SECONDS)}
    try:
        rendered.apply(cluster, "local", settings)
        pool = only_pool(cluster, namespace)
        wait_until_idle(cluster, pool)
        yield cluster, pool
    finally:
        rendered.remove(cluster, namespace)


def _flood(cluster: Cluster, pool: Pool) -> float:
    """The seconds from the first task to the write; the scaler's phase is left to chance."""
    wait_until_idle(cluster, pool)
    time.sleep(random.uniform(0, POLL_SECONDS))
    log = AuditLog()
    began = float(str(publish(cluster, pool.namespace, FLOOD)["began"]))
    deadline = time.monotonic() + WRITTEN_SECONDS
    while time.monotonic() < deadline:
        for request in log.read():
            if _is_scale_write(request, pool.namespace) and request.finished > began:
                return request.finished - began
        time.sleep(0.2)
    raise SystemExit(f"no /scale write within {WRITTEN_SECONDS} s of a flood")


def _is_scale_write(request: Request, namespace: str) -> bool:
    return (
        request.namespace == namespace
        and (request.resource, request.subresource) == ("deployments", "scale")
        and request.verb in WRITES
        and request.code == 200
    )


def _idle(pool: Pool, seconds: int) -> list[Request]:
    """Every request of the scaler's service account in a time in which nothing happens."""
    time.sleep(15)  # the figures' last refresh, and what the flood's pods still report
    log = AuditLog()
    time.sleep(seconds)
    user = f"system:serviceaccount:{pool.namespace}:{SCALER_NAME}"
    return [request for request in log.read() if request.user == user]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
