"""Owns one deployed stack as a test sees it: its settings, its floods, its ledger, its waits.

Every wait has a deadline, and a missed one says what was waited for; the diagnosis that follows is
`conftest`'s. It refuses to read a failed answer as 0: a look that fails is an error of the test.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from demo import rendered
from demo.cluster import Cluster
from demo.flood import publish
from demo.images import Built
from demo.rendered import Manifest
from demo.screen import Sight
from demo.sight import look
from tests.e2e.ledger import Entry, entries_of
from tests.e2e.outside import Outside, mount

POOL = "default"
WORKERS = f"{POOL}-celery-worker"
LEAST, MOST = 2, 4
CALM_SECONDS = 20
READY_SECONDS = 180
"""Several stacks may start at once, on a machine that has other work."""

# Node ports belong to the whole cluster, and several stacks share one.
APART = {
    "flowerServiceType": "ClusterIP",
    "flowerNodePort": "0",
    "scalerServiceType": "ClusterIP",
    "scalerNodePort": "0",
    "sampleAppNodePort": "0",
}
# Several stacks share a node of two processors: what they ask for must fit, what they take may burst.
SMALL = json.dumps({"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}})
ROOMY = json.dumps({"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}})
CALM = json.dumps({"scaleDown": {"stabilizationWindowSeconds": CALM_SECONDS}})


def settings_of(namespace: str, built: Built) -> dict[str, str]:
    return {
        **APART,
        "namespace": namespace,
        **built.settings,
        "behavior": CALM,
        # A worker whose broker went first, as when a namespace is deleted, takes all of it to stop.
        "gracePeriodSeconds": "10",
        "resources": SMALL,
        "redisResources": SMALL,
        "rabbitmqResources": ROOMY,
        "postgresqlResources": SMALL,
    }


Change = Callable[[Manifest], Manifest]


@dataclass(slots=True)
class Stack:
    cluster: Cluster
    namespace: str
    settings: dict[str, str]
    published: list[str] = field(default_factory=list)
    """The ids of all recorded tasks of floods, as they were asked for."""
    change: Change = field(default_factory=lambda: with_ledger)
    """What the tests add to the stack's own manifests."""

    @property
    def outside(self) -> Outside:
        return Outside(self.kubectl)

    @property
    def least(self) -> int:
        return int(self.settings.get("minReplicas", LEAST))

    def apply(self, **changes: object) -> None:
        """Deploy the stack, or what has changed of it, as rendered manifests."""
        self.settings |= {key: str(value) for key, value in changes.items()}
        rendered.apply(self.cluster, "local", self.settings, change=self.change)

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        here = f"--namespace={self.namespace}"
        return self.cluster.kubectl(here, *arguments, stdin=stdin, timeout_seconds=seconds)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def sight(self) -> Sight:
        return look(self.cluster, self.namespace, POOL)

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason."""
        status = self.get("celery", POOL).get("status", {})
        found = [one for one in status.get("conditions", []) if one["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def worker_pods(self) -> dict[str, str]:
        """UID by name, of those that are not leaving."""
        return self._pods(rendered.WORKERS)

    def scaler_pods(self) -> dict[str, str]:
        return self._pods("app.kubernetes.io/name=celery-fleet-scaler")

    def _pods(self, selector: str) -> dict[str, str]:
        pods = self.get("pods", f"--selector={selector}")["items"]
        return {
            pod["metadata"]["name"]: pod["metadata"]["uid"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        }

    def flood(self, *, tasks: int, batches: int, ms: int) -> None:
        """Recorded tasks: each is in the ledger when it starts and when it has finished."""
        answer = publish(self.cluster, self.namespace, f"tasks={tasks}&batches={batches}&task=record&ms={ms}")
        assert answer.get("published") == tasks * batches, answer
        self.published += [f"{answer['flood']}-{b}-{n}" for b in range(batches) for n in range(tasks)]

    def ledger(self) -> list[Entry]:
        """What the producer and the tasks of all workers, living and gone, have written."""
        return entries_of(self.outside.ledger())

    def wait_ready(self) -> None:
        """Every Deployment available, the object Ready, the fewest workers running, nothing to do."""
        available = ("--for=condition=Available", "deployment", "--all", f"--timeout={READY_SECONDS}s")
        self.kubectl("wait", *available, seconds=READY_SECONDS + 10)
        self.wait(
            lambda: (
                self.condition("Ready")[0] == "True"
                and self.condition("Active") == ("False", "NoDemand")
                and self.settled(self.least)
            ),
            f"Ready with {self.least} idle workers, each heard of",
            READY_SECONDS,
        )

    def settled(self, replicas: int) -> bool:
        sight = self.sight()
        return sight.waiting == 0 and sight.replicas == sight.ready == replicas

    def wait(self, fact: Callable[[], bool], what: str, seconds: float) -> float:
        """The seconds that it took."""
        began = time.monotonic()
        while not fact():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {self.sight()}")
            time.sleep(0.5)
        return time.monotonic() - began

    def unmoved(self, what: Callable[[], object], seconds: float) -> None:
        """Asserts that an answer stays the same all that time."""
        before = what()
        for _ in every(2, seconds):
            assert what() == before

    def remove(self) -> None:
        rendered.remove(self.cluster, self.namespace)


def every(pause_seconds: float, seconds: float) -> Iterator[int]:
    deadline = time.monotonic() + seconds
    for turn in itertools.count():
        yield turn
        if time.monotonic() >= deadline:
            return
        time.sleep(pause_seconds)


def with_ledger(manifest: Manifest) -> Manifest:
    """The stack's own manifest, with the ledger's volume for the workers."""
    if manifest["kind"] != "Deployment" or not manifest["metadata"]["name"].endswith("-celery-worker"):
        return manifest
    mount(manifest["spec"]["template"])
    return manifest


def left_of(*stacks: Stack) -> set[str]:
    """What of the stacks is still on the cluster: their namespaces, and cluster-wide objects of ours."""
    cluster = stacks[0].cluster
    kinds = cluster.kubectl("api-resources", "--namespaced=false", "--verbs=list", "--output=name").split()
    found = cluster.kubectl("get", ",".join(kinds), "--output=name", "--ignore-not-found").split()
    namespaces = {f"namespace/{stack.namespace}" for stack in stacks}
    # A test of the definition, which may run at the same time, has one of its own, in such a group.
    named = {name for name in found if "celery" in name and not name.endswith(".example.com")}
    ours = {name for name in named if not name.startswith("namespace/")}
    volumes = {
        f"persistentvolume/{volume['metadata']['name']}"
        for volume in cluster.get("persistentvolumes")["items"]
        if volume["spec"]["claimRef"]["namespace"] in {stack.namespace for stack in stacks}
    }
    return ours | volumes | (namespaces & set(found))
