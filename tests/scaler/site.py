"""A namespace on a real cluster with one pool in it, as the tests of the scaler's requests need it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from scaler import contract
from scaler.cluster.client import Api
from scaler.cluster.lease import Lease
from scaler.cluster.namespace import Namespace
from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment
from scaler.loop import Loop
from tests.conftest import Kubectl
from tests.scaler.fake_workers import FakeWorkers
from tests.scaler.fakes import FakeBroker, FakeCluster, FakeTelemetry
from tests.scaler.samples import spec

WORKERS = "sums-celery-worker"


@dataclass(frozen=True, slots=True)
class Site:
    """A namespace of the test's own, and a service account in it."""

    kubectl: Kubectl
    namespace: str

    def apply(self, *objects: dict[str, Any]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=text)

    def get(self, what: str) -> dict[str, Any]:
        text = self.kubectl("-n", self.namespace, "get", what, "-o", "json", "--show-managed-fields")
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    def grant(self, rules: object) -> None:
        """Let the service account do exactly this."""
        self.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": contract.SCALER_NAME},
                "rules": rules,
            }
        )

    def run(self, *arguments: str) -> str:
        return self.kubectl("-n", self.namespace, *arguments)


def deployment(replicas: int = 2) -> dict[str, Any]:
    """Workers whose pods exist and never start: nothing is pulled or run."""
    labels = {"app": "sums", contract.POOL_LABEL: "sums"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": WORKERS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "schedulingGates": [{"name": "celeryproject.org/never"}],
                    "containers": [{"name": "worker", "image": "none"}],
                },
            },
        },
    }


def celery(**target: Any) -> dict[str, Any]:
    return {
        "apiVersion": contract.API_VERSION,
        "kind": contract.KIND,
        "metadata": {"name": "sums"},
        "spec": spec(**target),
    }


Requests = list[tuple[str, str, str]]


def rights() -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for rule in contract.RBAC_RULES
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


@contextlib.asynccontextmanager
async def followed(site: Site, requests: Requests, identity: str = "me") -> AsyncIterator[Namespace]:
    """The namespace with its watches running."""
    api = Api(site.namespace, lambda *request: requests.append(request))
    namespace = Namespace(api, site.namespace, identity)
    task = asyncio.create_task(namespace.follow())
    try:
        yield namespace
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


async def until(reached: Callable[[], Any], seconds: float = 20) -> Any:
    """What `reached` gives as soon as it is true; a namespace that is not read yet is not."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ClusterFailure, KeyError):
            if found := reached():
                return found
        assert time.monotonic() < deadline, "not reached in time"
        await asyncio.sleep(0.05)


async def seen(namespace: Namespace) -> tuple[CeleryObject, Deployment]:
    """Object and Deployment once both are read and the Deployment has its pods."""

    def both() -> tuple[CeleryObject, Deployment] | None:
        snapshot = namespace.snapshot()
        found = snapshot.deployments[WORKERS]
        return (snapshot.celeries["sums"], found) if found.replicas is not None else None

    found = await until(both)
    assert isinstance(found, tuple)
    return found


def ready(site: Site) -> tuple[str, str]:
    conditions = site.get("celery/sums")["status"]["conditions"]
    found = next(item for item in conditions if item["type"] == "Ready")
    return found["status"], found["reason"]


@dataclass(slots=True)
class RealStage:
    """A loop whose broker is steered and whose cluster is real."""

    loop: Loop
    broker: FakeBroker
    telemetry: FakeTelemetry
    lease: Lease
    namespace: Namespace

    async def tick(self) -> None:
        at = time.time()
        with contextlib.suppress(ClusterFailure):
            await self.lease.keep(at)
        await self.loop.tick(at)


@contextlib.asynccontextmanager
async def staged(site: Site, requests: Requests) -> AsyncIterator[RealStage]:
    async with followed(site, requests) as namespace:
        broker, telemetry = FakeBroker(), FakeTelemetry()
        lease = Lease(namespace, "me")
        workers = FakeWorkers(FakeCluster(), time.time)
        loop = Loop(
            broker=broker,
            control=workers,
            ear=workers,
            cluster=namespace,
            lease=lease,
            telemetry=telemetry,
            poll_seconds=2,
        )
        yield RealStage(loop, broker, telemetry, lease, namespace)
