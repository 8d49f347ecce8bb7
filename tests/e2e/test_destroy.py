"""The end of a stack with 5,000 tasks queued and 20 running, by each policy, and what the ledger says of it.

By rendered manifests with the lifecycle resource in Pulumi's own provider server, and by the real `pulumi`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from demo.engine import Engine, program_found
from tests.e2e.backends import BACKENDS, SLICE_OF_REDIS
from tests.e2e.conftest import NewStack
from tests.e2e.ledger import judge, of_batch, published_in, running_at
from tests.e2e.stack import WORKERS, Stack
from tests.e2e.ways import Pulumi, Rendered, Way

pytestmark = pytest.mark.cluster

QUEUE: Final = "celery"
QUEUED: Final = 5_000
SETTINGS: Final[dict[str, Any]] = {
    "createNamespace": "false",
    "flower": "false",
    "minReplicas": 1,
    "maxReplicas": 4,
    "concurrency": 5,
    "averageValue": 50,
    "gracePeriodSeconds": 60,
    "pollSeconds": 1,
    "resources": json.dumps(
        {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "768Mi"}}
    ),
}
BUSY: Final = 15
"""Of 20 processes: between two tasks of some 10 ms each a process is seen to run none."""
NEVER_COMPARED: Final = frozenset({"events", "events.events.k8s.io", "leases.coordination.k8s.io"})
MADE_BY_CONTROLLERS: Final = frozenset({"Pod", "ReplicaSet", "Endpoints", "EndpointSlice"})


@pytest.fixture(params=SLICE_OF_REDIS)
def settings(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return {**SETTINGS, **BACKENDS[request.param]}


@pytest.fixture(params=["rendered", pytest.param("pulumi", marks=pytest.mark.pulumi)])
def way(
    request: pytest.FixtureRequest, new_stack: NewStack, tmp_path: Path, settings: Mapping[str, Any]
) -> Iterator[Way]:
    program = program_found()
    if request.param == "pulumi" and program is None:
        pytest.skip("there is no pulumi CLI: nothing of the engine was tested")
    if program is None or request.param == "rendered":
        yield Rendered(new_stack(**settings))
        return
    # Not `local`: the provider would read the settings of now in that stack's committed file.
    engine = Engine(program=program, folder=tmp_path / "ending", stack="ending")
    way = Pulumi(new_stack(deploy=lambda stack: Pulumi(stack, engine).up(), **settings), engine)
    yield way
    way.destroy(onDestroy="discard")


def test_tasks_at_destroy_are_finished_or_kept_or_given_up_as_the_policy_says(way: Way) -> None:
    stack = way.stack
    broker = stack.settings.get("broker", "redis")
    load(stack, "first", tasks=QUEUED, shortest=0.1, longest=0.4)
    before = objects(stack)

    refused = way.destroy(onDestroy="refuse")

    assert "onDestroy refuse: nothing was removed." in refused, refused
    assert "pool default: " in refused
    assert objects(stack) == before

    workers = stack.worker_pods()

    late = way.destroy(onDestroy="drain", drainTimeoutSeconds=10)

    assert "onDestroy drain: nothing was removed." in late, late
    assert " queued, " in late
    assert declared(objects(stack)) == declared(before)
    assert stack.get("deployment", "sample-app")["spec"]["replicas"] == 1
    assert stack.worker_pods() == workers

    with publishing_for(stack, 15, "first"):
        assert way.destroy(onDestroy="drain", drainTimeoutSeconds=600) == ""
    entries = stack.ledger()
    verdict = judge(published_in(entries), entries)
    assert verdict.finished >= QUEUED
    assert verdict.clean, verdict
    assert declared(objects(stack)).isdisjoint({("Deployment", broker), ("Deployment", WORKERS)})

    way.up()
    stack.outside.restart(stack.settings["image"])
    stack.wait_ready()
    load(stack, "second", tasks=200, shortest=5, longest=15)
    stack.outside.order(QUEUE, 0, batch="second", shortest=5, longest=15)
    running = running_tasks(stack)

    assert way.destroy(onDestroy="discard") == ""

    entries = of_batch(stack.ledger(), "second")
    verdict = judge(published_in(entries), entries)
    assert len(running) >= BUSY
    assert running <= {entry.task for entry in entries if entry.event == "finish"}
    assert (verdict.killed, verdict.repeated, verdict.unpublished) == ((), (), ())
    assert len(verdict.lost) >= 100, "what was queued is given up"


def load(stack: Stack, batch: str, *, tasks: int, shortest: float, longest: float) -> None:
    """So many outstanding from here on, and all workers busy."""
    stack.outside.order(QUEUE, tasks, batch=batch, shortest=shortest, longest=longest)
    stack.wait(lambda: stack.outside.outstanding(QUEUE) >= tasks, f"{tasks} tasks published", 240)
    stack.wait(lambda: available(stack) == 4, "four workers, each for long enough to be available", 120)
    stack.wait(lambda: len(running_tasks(stack)) >= BUSY, "busy workers", 60)


def available(stack: Stack) -> int:
    return int(stack.get("deployment", WORKERS)["status"].get("availableReplicas", 0))


def running_tasks(stack: Stack) -> set[str]:
    """A moment ago, so that every process has written what it had to say of it."""
    return {task for tasks in running_at(stack.ledger(), time.time() - 0.2).values() for task in tasks}


@contextmanager
def publishing_for(stack: Stack, seconds: float, batch: str) -> Iterator[None]:
    stop = partial(stack.outside.order, QUEUE, 0, batch=batch, shortest=0.1, longest=0.4)
    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def objects(stack: Stack) -> dict[tuple[str, str], str]:
    """Everything in the namespace, with its version; of a `Celery` object without its status, which lives."""
    listed = stack.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    kinds = ",".join(sorted(set(listed) - NEVER_COMPARED))
    return {
        (item["kind"], item["metadata"]["name"]): str(item["metadata"]["generation"])
        if item["kind"] == "Celery"
        else item["metadata"]["resourceVersion"]
        for item in stack.get(kinds)["items"]
    }


def declared(found: dict[tuple[str, str], str]) -> set[tuple[str, str]]:
    """Those that nobody makes by himself."""
    return {key for key in found if key[0] not in MADE_BY_CONTROLLERS}
