"""Owns the flood: published through the sample application, shown as the fleet follows it.

The fleet has followed when the workers went from the fewest to the most, the queue emptied, and they
went back to the fewest. Each step has a deadline; what a missed one means is the caller's to find out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from demo.cluster import Cluster
from demo.commands import DemoError, wait_until
from demo.screen import Screen, Sight
from demo.sight import look

IDLE_SECONDS = 120
OUT_SECONDS = 60
"""From the flood to the most workers running: two polls, and the start of pods on a busy machine."""
EMPTY_SECONDS = 900
IN_SECONDS = 180
"""From the last task to the fewest workers: the stack's calm, and what the last pods take to leave."""
PUBLISH_SECONDS = 600
TASK_MS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The Celery object of a stack, and its limits."""

    namespace: str
    name: str
    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How it went, in seconds from the request."""

    looks: Sequence[tuple[float, Sight]]
    """What was seen meanwhile, in order."""
    published: int
    published_seconds: float
    out: float
    empty: float
    back: float


def only_pool(cluster: Cluster, namespace: str) -> Pool:
    celery = cluster.get("celery", f"--namespace={namespace}")["items"][0]
    target = celery["spec"]["scaleTargetRef"][0]
    return Pool(
        namespace=namespace,
        name=celery["metadata"]["name"],
        least=target["minReplicas"],
        most=target["maxReplicas"],
    )


def publish(cluster: Cluster, namespace: str, query: str) -> dict[str, object]:
    """POST /flood; through the API server, which reaches the page wherever the cluster is."""
    path = f"/api/v1/namespaces/{namespace}/services/sample-app:main/proxy/flood?{query}"
    words = ("create", "--raw", path, "--filename=/dev/null")
    answer: dict[str, object] = json.loads(cluster.kubectl(*words, timeout_seconds=PUBLISH_SECONDS))
    return answer


def flood(cluster: Cluster, pool: Pool, screen: Screen, *, tasks: int, batches: int) -> Course:
    """Tasks that wait 10 ms each: they cost the machine little, so the publisher outruns the workers."""
    query = f"tasks={tasks}&batches={batches}&task=sleep&ms={TASK_MS}"
    answers: list[dict[str, object] | DemoError] = []
    looks: list[tuple[float, Sight]] = []

    def post() -> None:
        try:
            answers.append(publish(cluster, pool.namespace, query))
        except DemoError as trouble:
            answers.append(trouble)

    publisher = threading.Thread(target=post)
    began = time.monotonic()
    publisher.start()

    def show_until(fact: Callable[[Sight], bool], what: str, seconds: float) -> float:
        deadline = time.monotonic() + seconds
        while True:
            sight = look(cluster, pool.namespace, pool.name)
            looks.append((time.monotonic() - began, sight))
            screen.show(*looks[-1])
            if fact(sight):
                return looks[-1][0]
            if answers and isinstance(answers[0], DemoError):
                raise answers[0]
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {seconds:.0f} s")
            time.sleep(1)

    try:
        out = show_until(lambda s: s.replicas == s.ready == pool.most, f"{pool.most} workers", OUT_SECONDS)
        empty = show_until(lambda s: bool(answers) and s.waiting == 0, "an empty queue", EMPTY_SECONDS)
        back = show_until(
            lambda s: s.replicas == s.ready == pool.least, f"{pool.least} workers again", IN_SECONDS
        )
    finally:
        screen.end()
    publisher.join()
    answer = answers[0]
    if isinstance(answer, DemoError) or answer.get("published") != tasks * batches:
        raise DemoError(f"the flood was not published in full: {answer}")
    return Course(
        looks=looks,
        published=tasks * batches,
        published_seconds=float(str(answer["seconds"])),
        out=out,
        empty=empty,
        back=back,
    )


def wait_until_idle(cluster: Cluster, pool: Pool) -> None:
    def idle() -> bool:
        sight = look(cluster, pool.namespace, pool.name)
        return sight.waiting == 0 and sight.replicas == sight.ready == pool.least

    wait_until(idle, f"{pool.least} workers and nothing to do", timeout_seconds=IDLE_SECONDS)
