"""Pools that differ: what a pool's settings make of its pods, and beat beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.components.pod_baseline import HOME
from infra.recording import Recorded, record
from infra.settings import Configuration, load
from infra.settings.names import MAX_POOL_NAME, object_name
from scaler.contract import SCALER_NAME
from tests.conftest import Kubectl
from tests.infra.conftest import given, settings

VOLUME = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
MOUNT = {"name": "models", "mountPath": "/models", "readOnly": True}
ZONES = {
    "maxSkew": 1,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
}
GPU = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
APART: dict[str, Any] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
POOLS: dict[str, Any] = {
    "video": {
        "queues": ["video"],
        "volumes": [VOLUME],
        "volumeMounts": [MOUNT],
        "initContainers": [{"name": "fetch", "image": "fetch:1", "volumeMounts": [MOUNT]}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [GPU],
        "affinity": APART,
        "topologySpreadConstraints": [ZONES],
        "priorityClassName": "batch",
        "podAnnotations": {"example.com/scrape": "true"},
        "podLabels": {"team": "media"},
    },
    "mail": {"queues": ["mail"]},
}


def made(**values: Any) -> dict[str, Recorded]:
    configuration = Configuration(stack="dev", values=given(**values))
    return {resource.name: resource for resource in record(load(configuration))}


def template(program: dict[str, Recorded], name: str) -> Any:
    return program[name].inputs["spec"]["template"]


def test_a_pool_s_pods_are_as_its_settings_say_and_another_s_are_not() -> None:
    program = made(pools=POOLS)
    video, mail = (template(program, f"workers-{name}-deployment") for name in ("video", "mail"))
    spec = video["spec"]

    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [GPU]
    assert spec["affinity"] == APART
    assert spec["priorityClassName"] == "batch"
    assert VOLUME in spec["volumes"]
    assert MOUNT in spec["containers"][0]["volumeMounts"]
    assert video["metadata"]["annotations"]["example.com/scrape"] == "true"
    assert video["metadata"]["labels"]["team"] == "media"
    placing = {"nodeSelector", "tolerations", "affinity", "priorityClassName", "initContainers"}
    assert not placing & set(mail["spec"])
    assert "team" not in mail["metadata"]["labels"]


def test_a_spread_counts_the_pool_s_own_pods() -> None:
    """Without a selector Kubernetes would count none, and spread nothing."""
    program = made(pools=POOLS)
    (constraint,) = template(program, "workers-video-deployment")["spec"]["topologySpreadConstraints"]
    selector = program["workers-video-deployment"].inputs["spec"]["selector"]

    assert constraint == {**ZONES, "labelSelector": selector}


def test_an_init_container_is_restricted_and_limited_as_its_worker_unless_it_says_otherwise() -> None:
    own = {"limits": {"memory": "2Gi", "cpu": "1"}, "requests": {"cpu": "1"}}
    loose = {"name": "b", "image": "b:1", "resources": own, "securityContext": {"runAsUser": 1000}}
    program = made(initContainers=[{"name": "a", "image": "a:1", "command": ["true"]}, loose])
    spec = template(program, "workers-default-deployment")["spec"]
    first, second = spec["initContainers"]
    restricted = spec["containers"][0]["securityContext"]

    assert first == {
        "name": "a",
        "image": "a:1",
        "command": ["true"],
        "imagePullPolicy": "IfNotPresent",
        "resources": spec["containers"][0]["resources"],
        "securityContext": restricted,
        "env": [HOME],
        "volumeMounts": [{"name": "tmp", "mountPath": HOME["value"]}],
    }
    assert second["securityContext"] == {**restricted, "runAsUser": 1000}
    assert second["resources"] == own


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mail", "mail"),
        ("mail_eu", "mail-eu-208edf"),
        ("mail.eu", "mail-eu-744ee7"),
        ("Mail", "mail-07ed6c"),
        ("邮件", "pool-3d708e"),
        ("-", "pool-3973e0"),
        ("x" * 60, "x" * 42 + "-42f2d9"),
    ],
)
def test_a_pool_may_be_named_as_its_queue_is(name: str, expected: str) -> None:
    """Valid, distinct, and the same tomorrow: the expected names are written down (sha256sum)."""
    assert object_name(name) == expected
    assert len(expected) <= MAX_POOL_NAME


def test_the_objects_of_a_pool_have_one_name_and_its_queue_keeps_its_own() -> None:
    program = made(pools={"mail_eu": {"queues": ["mail_eu"]}})
    name = object_name("mail_eu")
    celery = program[f"fleet-{name}"].inputs
    deployment = program[f"workers-{name}-deployment"].inputs

    assert celery["metadata"]["name"] == name
    assert celery["spec"]["workerSpec"]["queues"] == "mail_eu"
    assert deployment["metadata"]["name"] == f"{name}-celery-worker"
    command = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("-Q") + 1] == "mail_eu"


def test_beat_is_one_pod_that_runs_the_app_of_its_pool() -> None:
    program = made(
        beat="true",
        beatPool="video",
        pools={**POOLS, "video": {**POOLS["video"], "image": "video:1", "celeryApp": "video:app"}},
        brokerTransportOptions={"sep": "|"},
    )
    spec = program["beat-deployment"].inputs["spec"]
    pod = spec["template"]["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (container,) = pod["containers"]
    assert container["image"] == "video:1"
    assert container["command"] == [
        *("celery", "-A", "video:app", "beat", "-l", "info", "--pidfile=", "-s"),
        *("/var/lib/celery-beat/schedule", "--", 'broker.transport_options=(dict){"sep": "|"}'),
    ]
    assert not {"livenessProbe", "readinessProbe"} & set(container)
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert {"name": "var-lib-celery-beat", "emptyDir": {"sizeLimit": "64Mi"}} in pod["volumes"]
    assert program["lifecycle"].inputs["producers"] == ["celery-beat"]


def test_beat_keeps_its_schedule_where_the_stack_says_so() -> None:
    program = made(beat="true", beatSchedulePersistence={"enabled": True})
    claim = program["beat-claim"].inputs

    assert claim["spec"]["resources"]["requests"]["storage"] == "100Mi"
    volumes = template(program, "beat-deployment")["spec"]["volumes"]
    assert {
        "name": "var-lib-celery-beat",
        "persistentVolumeClaim": {"claimName": "celery-beat"},
    } in volumes


def test_beat_alone_is_a_producer_where_there_is_no_sample_app() -> None:
    assert record(settings("dev"))[-1].inputs["producers"] == []
    assert record(settings("local", {"beat": "true"}))[-1].inputs["producers"] == [
        "sample-app",
        "celery-beat",
    ]


@pytest.mark.cluster
def test_every_pod_and_policy_is_taken_where_the_restricted_standard_is_enforced(
    kubectl: Kubectl, namespace: str
) -> None:
    """By a real API server, of a stack with all that a pool can have; nothing is kept (`--dry-run`)."""
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("create", "serviceaccount", SCALER_NAME, f"--namespace={namespace}")
    # A class that every cluster has.
    pools = {**POOLS, "video": {**POOLS["video"], "priorityClassName": "system-cluster-critical"}}
    peer = [{"namespaceSelector": {}, "podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]
    program = made(
        namespace=namespace,
        createNamespace="false",
        pools=pools,
        beat="true",
        beatPool="video",
        beatSchedulePersistence={"enabled": True},
        sampleApp="true",
        brokerClients=peer,
        scalerClients=peer,
        workerEgress=[{"to": peer, "ports": [{"port": 443}]}],
    )
    objects = [found.inputs for found in program.values() if found.is_kubernetes_object]
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template_["metadata"], "name": item["metadata"]["name"], "annotations": {}},
            "spec": template_["spec"],
        }
        for item in objects
        if item["kind"] == "Deployment"
        for template_ in [item["spec"]["template"]]
    ]
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    create = ("create", "--dry-run=server", "--output=name", "--filename=-", f"--namespace={namespace}")
    everything = {"apiVersion": "v1", "kind": "List", "items": [*pods, *policies]}

    taken = kubectl(*create, stdin=json.dumps(everything)).split()

    assert len(taken) == len(pods) + len(policies)
    assert {"pod/video-celery-worker", "pod/celery-beat", f"pod/{SCALER_NAME}"} <= set(taken)
