"""The definition of `Celery` on a real API server: accepted, with defaults, and strict where it must be.

Each session has an API group of its own, so that other tests' objects and their definition are not touched.
"""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.components import fleet_schema
from infra.components.fleet_objects import celery_spec, definition
from infra.live import first_look
from infra.recording import record
from scaler import contract
from tests.conftest import Kubectl
from tests.infra.conftest import STACKS, settings

pytestmark = pytest.mark.cluster

SPEC: dict[str, Any] = {
    "common": {"appName": "example", "celeryApp": "app:celery_app", "image": "example/image:latest"},
    "scaleTargetRef": [{"kind": "worker"}],
}

LATER: dict[str, Any] = {
    "paused": False,
    "mode": "active",
    "drainSeconds": contract.DEFAULT_DRAIN_SECONDS,
}
"""Defaults of the fields that the former operator did not have."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Our definition under a group of the session's own."""

    kubectl: Kubectl
    group: str

    @property
    def name(self) -> str:
        return f"{contract.PLURAL}.{self.group}"

    def apply(self, *, revision: int = fleet_schema.REVISION, more: dict[str, Any] | None = None) -> None:
        """`more` are fields of `spec` that this program does not know."""
        spec = {**copy.deepcopy(definition()), "group": self.group}
        del spec["names"]["shortNames"]  # they are the real one's: kubectl would warn whoever asks for `cel`
        schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"] |= more or {}
        annotations = {fleet_schema.REVISION_ANNOTATION: str(revision)}
        document = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name, "annotations": annotations},
            "spec": spec,
        }
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(document))
        self.kubectl("wait", "--for=condition=Established", f"crd/{self.name}", "--timeout=30s")

    def make(self, namespace: str, spec: dict[str, Any], name: str = "example") -> str:
        """What kubectl says; an answer that starts with `celery` when the object is accepted."""
        document = {
            "apiVersion": f"{self.group}/{contract.VERSION}",
            "kind": contract.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        for _ in range(20):
            try:
                return self.kubectl("apply", "--validate=strict", "-f", "-", stdin=json.dumps(document))
            except AssertionError as error:
                # A schema that was just changed is served a moment later.
                if "no matches for kind" not in str(error) and "could not find" not in str(error):
                    return str(error)
            time.sleep(0.25)
        raise AssertionError(f"{self.name} is not served")

    def read(self, namespace: str, name: str = "example") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.kubectl("get", self.name, name, "-n", namespace, "-o", "json")
        )
        return found


@pytest.fixture(scope="module")
def defined(kubectl: Kubectl) -> Iterator[Definition]:
    made = Definition(kubectl, f"t{uuid.uuid4().hex[:8]}.example.com")
    made.apply()
    yield made
    kubectl("delete", "crd", made.name, "--wait=false")


def changed(path: str, value: Any) -> dict[str, Any]:
    """SPEC with another value at a path like `scaleTargetRef.0.minReplicas`."""
    spec = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    target: Any = spec
    for step in parents:
        target = target[int(step)] if step.isdigit() else target.setdefault(step, {})
    target[last] = value
    return spec


def test_an_object_of_the_former_operator_is_still_valid(defined: Definition, namespace: str) -> None:
    """Every field of pearlsprathap/Celery-Kubernetes-Operator's example, at its place, none pruned."""
    spec = {
        "common": {"appName": "former", "celeryApp": "app:celery_app", "image": "former/image:latest"},
        "workerSpec": {
            "numOfWorkers": 2,
            "queues": "celery",
            "logLevel": "debug",
            "concurrency": 2,
            "resources": {
                "requests": {"cpu": "100m", "memory": "64Mi"},
                "limits": {"cpu": "200m", "memory": "128Mi"},
            },
        },
        "flowerSpec": {
            "replicas": 1,
            "resources": {
                "requests": {"cpu": "100m", "memory": "64Mi"},
                "limits": {"cpu": "200m", "memory": "128Mi"},
            },
        },
        "scaleTargetRef": [
            {
                "kind": "worker",
                "minReplicas": 2,
                "maxReplicas": 4,
                "metrics": [{"name": "message_queue", "target": {"type": "length", "averageValue": 100}}],
            }
        ],
    }

    assert "created" in defined.make(namespace, spec)

    stored = defined.read(namespace)["spec"]
    assert stored == {**spec, "scaleTargetRef": [{**spec["scaleTargetRef"][0], **LATER}]}  # type: ignore[index]
    assert contract.policy_of(stored).min_replicas == 2


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_that_a_stack_declares_is_accepted_as_it_is(
    defined: Definition, namespace: str, stack: str
) -> None:
    """Strict validation: a field that the schema lacks would be pruned silently otherwise."""
    declared = settings(stack)
    for pool in declared.pools:
        spec = celery_spec(declared, pool)

        assert "created" in defined.make(namespace, spec, name=pool.name)
        assert contract.policy_of(defined.read(namespace, pool.name)["spec"]) == contract.policy_of(spec)


def test_what_is_left_out_has_the_defaults_that_the_scaler_assumes(
    defined: Definition, namespace: str
) -> None:
    defined.make(namespace, SPEC)

    stored = defined.read(namespace)["spec"]
    assert stored["workerSpec"] == {"queues": "celery", "concurrency": 1}
    assert stored["scaleTargetRef"] == [{"kind": "worker", "minReplicas": 1, "maxReplicas": 10, **LATER}]
    assert contract.policy_of(stored) == contract.policy_of(SPEC)


LONGEST = ",".join(f"queue-{number:03}" for number in range(102))


@pytest.mark.parametrize(
    "queues",
    [
        pytest.param("a", id="one"),
        pytest.param("a,b", id="two"),
        pytest.param("aa,a,ab,ba", id="names that contain each other"),
        pytest.param("a b,ab", id="a blank inside a name"),
        pytest.param("a.b,a-b,a_b,$(x),\u00fc", id="names of many characters"),
        pytest.param(LONGEST[: contract.MAX_QUEUES_LENGTH], id="as many as there may be"),
    ],
)
def test_queues_that_the_scaler_can_follow_are_accepted(
    defined: Definition, namespace: str, queues: str
) -> None:
    assert "created" in defined.make(namespace, changed("workerSpec.queues", queues))
    contract.queues_of(queues)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(
            changed("scaleTargetRef.0.minReplicas", 11),
            contract.MIN_ABOVE_MAX.message,
            id="the minimum is above the default maximum",
        ),
        pytest.param(
            changed("scaleTargetRef", [{"kind": "worker", "minReplicas": 5, "maxReplicas": 4}]),
            contract.MIN_ABOVE_MAX.message,
            id="the minimum is above the maximum",
        ),
        pytest.param(changed("workerSpec.queues", ""), contract.QUEUE_EMPTY.message, id="no queue"),
        pytest.param(changed("workerSpec.queues", "a,,b"), contract.QUEUE_EMPTY.message, id="an empty name"),
        pytest.param(changed("workerSpec.queues", "a, "), contract.QUEUE_EMPTY.message, id="a blank name"),
        pytest.param(changed("workerSpec.queues", "a,b,a"), contract.QUEUE_TWICE.message, id="a queue twice"),
        pytest.param(
            changed("workerSpec.queues", "a, b, a"),
            contract.QUEUE_TWICE.message,
            id="a queue twice, with blanks",
        ),
        pytest.param(
            changed("workerSpec.queues", "q" * (contract.MAX_QUEUES_LENGTH + 1)),
            "Too long: may not be more than 1024 bytes",
            id="too many queues",
        ),
        pytest.param(
            changed("scaleTargetRef.0.minReplicas", -1), "greater than or equal to 0", id="negative"
        ),
        pytest.param(
            changed("scaleTargetRef.0.maxReplicas", 1001), "less than or equal to 1000", id="a huge maximum"
        ),
        pytest.param(
            changed("scaleTargetRef.0.maxReplicas", 0), "greater than or equal to 1", id="no maximum"
        ),
        pytest.param(changed("workerSpec.concurrency", 0), "greater than or equal to 1", id="no concurrency"),
        pytest.param(
            changed("scaleTargetRef.0.metrics", [{"name": "message_queue", "target": {"averageValue": 0}}]),
            "greater than or equal to 1",
            id="no average value",
        ),
        pytest.param(
            changed("scaleTargetRef.0.metrics", [{"name": "cpu"}]), "Unsupported value", id="another metric"
        ),
        pytest.param(
            changed("scaleTargetRef.0.drainSeconds", 0), "greater than or equal to 1", id="no time to drain"
        ),
        pytest.param(changed("scaleTargetRef.0.kind", "flower"), "Unsupported value", id="another kind"),
        pytest.param(changed("scaleTargetRef", []), "should have at least 1 items", id="no target"),
        pytest.param(
            changed("scaleTargetRef", [{"kind": "worker"}, {"kind": "worker"}]),
            "Too many: 2: must have at most 1 item",
            id="two targets",
        ),
        pytest.param(changed("common", {"image": "x"}), "Required value", id="no name"),
        pytest.param(changed("common.appName", "My_App"), "should match", id="a name of no Deployment"),
        pytest.param(
            changed("scaleTargetRef.0.behavior", {"scaleDown": {"stabilizationWindowSeconds": 3601}}),
            "less than or equal to 3600",
            id="too long a window",
        ),
        pytest.param(
            changed("workerSpec.resources", {"limits": {"memory": "1 GB"}}), "should match", id="no quantity"
        ),
        pytest.param(
            changed("workerSpec.replicas", 3), 'unknown field "spec.workerSpec.replicas"', id="unknown"
        ),
    ],
)
def test_what_the_scaler_cannot_follow_is_refused(
    defined: Definition, namespace: str, spec: dict[str, Any], words: str
) -> None:
    answer = defined.make(namespace, spec)

    assert "created" not in answer
    assert words in answer


def test_a_list_of_pools_tells_all(defined: Definition, namespace: str, kubectl: Kubectl) -> None:
    """The columns of `kubectl get cel`, with a status as the scaler writes it."""
    defined.make(namespace, SPEC)
    now = "2026-11-23T10:00:00.250000Z"
    condition = {"status": "True", "lastTransitionTime": now, "message": "m", "observedGeneration": 1}
    status = {
        "observedGeneration": 1,
        "replicas": 3,
        "desiredReplicas": 4,
        "queued": 350,
        "unacked": 8,
        "active": 5,
        "notDue": 40,
        "nextDueTime": now,
        "capacity": 6,
        "stranded": 2,
        "draining": [{"pod": "example-celery-worker-0", "since": now}],
        "calmSince": now,
        "lastScaleTime": now,
        "scaleEvents": [{"at": now, "change": 1}],
        "decision": {"reason": "DemandRose", "message": "demand 358"},
        "conditions": [
            {**condition, "type": "Ready", "reason": "Watching"},
            {**condition, "type": "ScalingLimited", "reason": "AtMaximum"},
            {**condition, "type": "Draining", "reason": "WaitingForTasks"},
        ],
    }
    patch = json.dumps({"status": status})
    where = (defined.name, "example", "-n", namespace)
    kubectl("patch", *where, "--subresource=status", "--type=merge", "-p", patch)

    header, row = kubectl("get", *where, "-o", "wide").splitlines()

    columns = ("NAME", "QUEUES", "QUEUED", "ACTIVE", "REPLICAS", "DESIRED", "MIN", "MAX", "READY", "AGE")
    assert tuple(header.split()) == (*columns, "REASON")
    values = row.split()
    assert values[:9] == ["example", "celery", "350", "5", "3", "4", "1", "10", "True"]
    assert values[-1] == "DemandRose"
    assert defined.read(namespace)["status"] == status


def test_a_status_cannot_be_written_with_the_spec(defined: Definition, namespace: str) -> None:
    defined.make(namespace, SPEC)

    assert "status" not in defined.read(namespace)


def test_an_older_program_prunes_nothing_of_a_newer_one(
    defined: Definition, namespace: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured before there was this check: a fresh `up` of an older program dropped the newer field."""
    newer = fleet_schema.REVISION + 1
    defined.apply(revision=newer, more={"later": {"type": "string"}})
    for _ in range(20):
        if "created" in defined.make(namespace, {**SPEC, "later": "kept"}):
            break
        time.sleep(0.25)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr(contract, "CRD_NAME", defined.name)

    seen = first_look.look(settings("dev", {"namespace": "nobody-made-this-one"}))
    program = record(settings("dev"), seen)

    assert seen.schema_revision == newer
    assert not [r for r in program if r.inputs.get("kind") == "CustomResourceDefinition"]
    assert defined.read(namespace)["spec"]["later"] == "kept"
