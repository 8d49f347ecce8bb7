"""From a flood's first task to the accepted `/scale` write: `python -m bench.flood [--floods N]`.

It deploys a stack, floods it again and again at a random moment of the scaler's poll, and reads the
write's time from the API server's audit log. Then the stack is left alone, and what the scaler asks of
the API server while there is nothing to do is counted in the same log. The floods' idle workers leave one
by one or together: how long each scale-in took, and what it cost. At last, one flood of 3 x 10,000 tasks
with the calm that a stack has by default.

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
from dataclasses import dataclass

from bench.audit import AuditLog, Request
from bench.memory import resident_megabytes
from demo import cluster as clusters
from demo import images, rendered
from demo.cluster import Cluster
from demo.flood import Pool, flood, only_pool, publish, wait_until_idle
from demo.screen import Screen
from scaler.contract import SCALER_NAME
from tests.e2e.course import Course, followed
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
        log = AuditLog()
        with followed(cluster, pool.namespace, pool.name) as course:
            times = [_flood(cluster, pool) for _ in range(options.floods)]
            wait_until_idle(cluster, pool)
        scale_ins = _scale_ins(course, [request for request in log.read() if _is_scalers(request, pool)])
        memory = resident_megabytes(cluster, pool.namespace, SCALER_NAME)
        asked = _idle(pool, options.seconds)
        back = _back(cluster, pool)
    polls = [scale_in.polls for scale_in in scale_ins]
    writes = [scale_in.writes for scale_in in scale_ins]
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    leases = sum(request.resource == "leases" for request in asked)
    idle_writes = sum(request.verb in WRITES and request.resource != "leases" for request in asked)
    rows = [
        (
            f"first task to accepted /scale, {len(times)} floods, p50 / p95 / max",
            f"{statistics.median(times):.2f} / {cuts[-1]:.2f} / {max(times):.2f} s",
            f"p95 <= {LIMIT_SECONDS} s",
        ),
        (
            f"chosen to /scale, {len(scale_ins)} scale-ins of idle workers, p50 / max",
            f"{statistics.median(polls):.1f} / {max(polls):.1f} polls",
            "<= 3 polls",
        ),
        (
            "writes of these beside /scale, a worker, mean / max",
            f"{statistics.mean(writes):.1f} / {max(writes):.1f}",
            "<= 2",
        ),
        ("3 x 10,000 tasks: the fewest workers after the queue was empty", f"{back:.0f} s", "<= 75 s"),
        ("memory of the scaler in its pod, 1 object", f"{memory:.1f} MB", "<= 85 MB"),
        (f"idle for {options.seconds} s: requests", f"{len(asked) / options.seconds:.2f} /s", "<= 0.6 /s"),
        (f"idle for {options.seconds} s: Lease", f"{leases}", f"<= {options.seconds // 5}"),
        (f"idle for {options.seconds} s: other writes", f"{idle_writes}", "0"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleIn:
    """Of workers that had nothing to do."""

    polls: float
    """From the choice to the accepted /scale."""
    writes: float
    """Of the scaler in that time, for each worker, without /scale itself and the Lease. It asks nothing
    for a scale-in: what it reads comes by its watches."""


def _scale_ins(course: Course, asked: Sequence[Request]) -> list[ScaleIn]:
    """Each fall, with the writes since its victims were chosen."""
    found, chosen = [], 0.0
    moments = iter(course.moments)
    for fall in course.falls():
        for moment in moments:
            if moment.at >= fall.at:
                break
            if not moment.draining:
                chosen = moment.at
        written = [
            request.finished
            for request in asked
            if request.subresource == "scale" and chosen < request.finished <= fall.at
        ]
        between = [
            request
            for request in asked
            if request.verb in WRITES
            and request.resource != "leases"
            and request.subresource != "scale"
            and chosen < request.finished <= max(written, default=fall.at)
        ]
        polls = (max(written, default=fall.at) - chosen) / POLL_SECONDS
        found.append(ScaleIn(polls=polls, writes=len(between) / fall.by))
    return found


def _back(cluster: Cluster, pool: Pool) -> float:
    """Seconds from the empty queue of a large flood to the fewest workers, by default."""
    settings = settings_of(pool.namespace, images.build_and_load(cluster, ""))
    rendered.apply(cluster, "local", {key: value for key, value in settings.items() if key != "behavior"})
    wait_until_idle(cluster, pool)
    course = flood(cluster, pool, Screen(pool.most, sys.stderr), tasks=10_000, batches=3)
    return course.back - course.empty


def _is_scalers(request: Request, pool: Pool) -> bool:
    return request.user == f"system:serviceaccount:{pool.namespace}:{SCALER_NAME}"


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
    return [request for request in log.read() if _is_scalers(request, pool)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
