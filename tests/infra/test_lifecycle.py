"""The lifecycle resource through Pulumi's own provider server, against a real API server and kubelet.

The tests play the rest of the stack with kubectl: Deployments of the pause image, `Celery` objects, and
the scaler, whose condition they write into the objects' status.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.components import fleet_schema
from infra.lifecycle import LifecycleProvider
from scaler import contract
from scaler.contract import Ready
from tests.conftest import Kubectl
from tests.definition import define
from tests.devcluster import images
from tests.devcluster.pause import PAUSE_IMAGE
from tests.devcluster.servers import REDIS
from tests.infra.provider_server import UNKNOWN, ProviderError, ProviderServer, Resource

pytestmark = pytest.mark.cluster

PAUSE = PAUSE_IMAGE if "DEMO_CONTEXT" not in os.environ else "registry.k8s.io/pause:3.10"
PATIENCE_SECONDS = 180
"""How long an `up` here waits where it sees no reason not to: who fails earlier has seen one."""


@dataclass(slots=True)
class Stack:
    """One stack's namespace, and what the program would declare to its lifecycle resource."""

    namespace: str
    kubectl: Kubectl

    def declared(self, **properties: Any) -> dict[str, Any]:
        outputs = {"cluster_uid": None, "ready_at": None, "messages": None}
        return {
            "namespace": self.namespace,
            "context": os.environ.get("DEMO_CONTEXT", ""),
            "kubeconfig_path": "",
            "stack": "test",
            "deployments": [],
            "celeries": {},
            "config_digest": "1",
            "ready_timeout_seconds": PATIENCE_SECONDS,
            "image_timeout_seconds": PATIENCE_SECONDS,
            "on_destroy": "drain",
            "schema_revision": 999,  # whatever CRD other tests leave on the cluster
            **properties,
            **outputs,
        }

    def deploy(self, name: str = "web", *, replicas: int = 1, **container: Any) -> None:
        labels = {"app": name}
        spec = {"name": "worker", "image": PAUSE, "imagePullPolicy": "IfNotPresent", **container}
        pod_spec = {"containers": [spec], "terminationGracePeriodSeconds": 0}
        pod = {"metadata": {"labels": labels}, "spec": pod_spec}
        self.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
            }
        )

    def apply(self, item: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(item))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", "-n", self.namespace, *arguments, "-o", "json"))

    def declare_pool(self, name: str = "web") -> None:
        self.apply(
            {
                "apiVersion": contract.API_VERSION,
                "kind": contract.KIND,
                "metadata": {"name": name},
                "spec": {
                    "common": {"appName": name, "celeryApp": "app", "image": PAUSE},
                    "scaleTargetRef": [{"kind": "worker", "minReplicas": 1, "maxReplicas": 2}],
                },
            }
        )

    def report(self, name: str = "web", **status: Any) -> None:
        """Play the scaler."""
        self.kubectl(
            *("patch", contract.CRD_NAME, name, "-n", self.namespace),
            *("--subresource=status", "--type=merge", "-p", json.dumps({"status": status})),
        )


def ready(status: str, reason: str, message: str, generation: int = 1) -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


WATCHING = ready("True", Ready.WATCHING, "all is well")


@pytest.fixture(scope="session")
def crd(kubectl: Kubectl) -> None:
    """The CRD as this checkout's program applies it; it stays, as it does for a stack."""
    define(kubectl)


@pytest.fixture(scope="session")
def shell_image(kubeconfig: Path) -> str:
    """An image with a shell that the cluster has; `kubeconfig` is asked for so that there is one."""
    if "DEMO_CONTEXT" in os.environ:
        return "redis:8.2"
    assert kubeconfig.exists()
    name = images.base(REDIS)
    images.load(name)
    return name


@pytest.fixture
def stack(namespace: str, kubectl: Kubectl) -> Stack:
    return Stack(namespace, kubectl)


@pytest.fixture
def server(kubeconfig: Path) -> Iterator[ProviderServer]:
    with ProviderServer(LifecycleProvider(), environment={"KUBECONFIG": str(kubeconfig)}) as server:
        yield server


def failure_of(server: ProviderServer, declared: Mapping[str, Any]) -> tuple[str, float]:
    """What an `up` that must fail says, without the provider's stack trace, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(ProviderError) as raised:
        server.up(declared)
    _, _, message = str(raised.value).partition("LifecycleFailed: ")
    assert message, raised.value
    return message.strip(), time.monotonic() - began


def test_the_state_holds_the_providers_name_and_no_code(server: ProviderServer) -> None:
    pickle = base64.b64decode(server.pickle)

    assert b"infra.lifecycle" in pickle
    assert b"LifecycleProvider" in pickle
    assert len(pickle) < 100


def test_up_returns_once_every_deployment_runs_and_the_second_up_is_unchanged(
    server: ProviderServer, stack: Stack
) -> None:
    stack.deploy("web", replicas=2)
    stack.deploy("idle", replicas=0)
    declared = stack.declared(deployments=["web", "idle"])

    resource = server.up(declared)

    uid = stack.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    assert stack.get("deployment", "web")["status"]["availableReplicas"] == 2
    assert resource.outputs["cluster_uid"] == uid
    assert resource.outputs["messages"] == []
    assert server.up(declared, resource) is resource


def test_up_waits_for_a_roll_out_not_for_the_pods_that_it_replaces(
    server: ProviderServer, stack: Stack
) -> None:
    stack.deploy(env=[{"name": "VERSION", "value": "1"}])
    resource = server.up(stack.declared(deployments=["web"]))
    stack.deploy(env=[{"name": "VERSION", "value": "2"}])

    server.up(stack.declared(deployments=["web"], config_digest="2"), resource)

    (pod,) = [pod for pod in stack.get("pods")["items"] if "deletionTimestamp" not in pod["metadata"]]
    assert pod["spec"]["containers"][0]["env"] == [{"name": "VERSION", "value": "2"}]


@pytest.mark.parametrize(
    ("key", "value", "changes"),
    [
        ("config_digest", "2", True),
        ("celeries", {"web": "digest"}, True),
        ("deployments", ["web", "flower"], True),
        ("on_destroy", "discard", True),
        ("schema_revision", 2, False),
        ("ready_timeout_seconds", 61, False),
        ("image_timeout_seconds", 301, False),
        ("kubeconfig_path", "elsewhere", False),
        ("deployments", ["web"], False),
    ],
)
def test_what_the_fleet_is_made_of_is_an_update_and_nothing_is_a_replacement(
    server: ProviderServer, stack: Stack, key: str, value: object, changes: bool
) -> None:
    declared = stack.declared(deployments=["web"])
    outputs = json.loads(json.dumps(declared), parse_int=float)  # as they come back from the engine

    assert server.diff(Resource("id", declared, outputs), {**declared, key: value}) == (changes, [])


def test_an_image_that_cannot_be_pulled_fails_in_seconds_with_name_reason_and_cure(
    server: ProviderServer, stack: Stack
) -> None:
    stack.deploy(image="localhost/nope:1")

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "Deployment web: image localhost/nope:1 cannot be pulled (" in message
    assert "make images REGISTRY=... PUSH=1" in message
    assert seconds < PATIENCE_SECONDS


def test_an_image_that_is_never_pulled_fails_at_once(server: ProviderServer, stack: Stack) -> None:
    stack.deploy(image="localhost/nope:1", imagePullPolicy="Never")

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "localhost/nope:1 cannot be pulled (ErrImageNeverPull)" in message
    assert "Load the image onto every node" in message
    assert seconds < PATIENCE_SECONDS


def test_an_image_name_that_cannot_exist_fails_at_once(server: ProviderServer, stack: Stack) -> None:
    stack.deploy(image="Nope:://1")

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "image Nope:://1 cannot be pulled (InvalidImageName)" in message
    assert seconds < PATIENCE_SECONDS


def test_a_missing_key_of_a_secret_is_named(server: ProviderServer, stack: Stack) -> None:
    stack.kubectl("create", "secret", "generic", "broker", "-n", stack.namespace, "--from-literal=a=b")
    reference = {"secretKeyRef": {"name": "broker", "key": "url"}}
    stack.deploy(env=[{"name": "BROKER", "valueFrom": reference}])

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "couldn't find key url in Secret" in message
    assert seconds < PATIENCE_SECONDS


def test_a_command_that_the_image_lacks_is_named(server: ProviderServer, stack: Stack) -> None:
    stack.deploy(command=["/nope"])

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "container worker cannot start: StartError, exit code 128" in message
    assert "/nope" in message
    assert seconds < PATIENCE_SECONDS


def test_a_crash_is_told_with_its_last_words_and_without_passwords(
    server: ProviderServer, stack: Stack, shell_image: str
) -> None:
    script = "echo cannot reach redis://app:hunter2@redis:6379/0; exit 3"
    stack.deploy(image=shell_image, command=["sh", "-c", script])

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "container worker has ended 3 times (Error, exit code 3)" in message
    assert "cannot reach redis://app:***@redis:6379/0" in message
    assert "hunter2" not in message
    assert seconds < PATIENCE_SECONDS


def test_a_pod_that_no_node_takes_is_told_in_the_schedulers_words(
    server: ProviderServer, stack: Stack
) -> None:
    stack.deploy(resources={"requests": {"cpu": "10000"}})

    message, _ = failure_of(server, stack.declared(deployments=["web"], image_timeout_seconds=10))

    assert "finds no node: 0/1 nodes are available" in message


def test_a_quota_that_allows_no_pod_is_named(server: ProviderServer, stack: Stack) -> None:
    stack.kubectl("create", "quota", "none", "-n", stack.namespace, "--hard=pods=0")
    stack.deploy()

    message, seconds = failure_of(server, stack.declared(deployments=["web"]))

    assert "no pod can be made" in message
    assert "exceeded quota: none" in message
    assert seconds < PATIENCE_SECONDS


def test_a_pool_that_serves_on_a_full_cluster_is_a_note(server: ProviderServer, stack: Stack) -> None:
    stack.kubectl("create", "quota", "one", "-n", stack.namespace, "--hard=pods=1")
    stack.deploy(replicas=2)

    resource = server.up(stack.declared(deployments=["web"]))

    (note,) = resource.outputs["messages"]
    assert "exceeded quota: one" in note


def test_another_scaler_of_the_same_deployment_is_refused_at_preview(
    server: ProviderServer, stack: Stack
) -> None:
    stack.deploy()
    stack.kubectl("autoscale", "deployment", "web", "-n", stack.namespace, "--name=mine", "--max=5")

    _, failures = server.check(stack.declared(deployments=["web"]))

    reason = (
        "HorizontalPodAutoscaler mine scales Deployment web too: two writers of replicas undo each "
        "other and kill running tasks. Remove it: kubectl delete horizontalpodautoscaler mine "
        f"-n {stack.namespace}, or watch beside it: set the pool's `mode` to shadow"
    )
    assert failures == [("deployments", reason)]


def test_another_scaler_beside_a_pool_in_shadow_is_welcome(server: ProviderServer, stack: Stack) -> None:
    """It is what shadow is for, and only for the Deployments that are in shadow."""
    stack.deploy()
    stack.kubectl("autoscale", "deployment", "web", "-n", stack.namespace, "--name=mine", "--max=5")

    _, watched = server.check(stack.declared(deployments=["web"], shadow=["web"]))
    _, scaled = server.check(stack.declared(deployments=["web"], shadow=["other"]))

    assert (watched, [key for key, _ in scaled]) == ([], ["deployments"])


@pytest.fixture(scope="session")
def keda(kubectl: Kubectl) -> None:
    """KEDA's kind, as far as it is read here, unless the cluster has KEDA.

    It stays: kube-controller-manager goes on asking for a kind whose CRD was deleted, every few seconds.
    """
    name = "scaledobjects.keda.sh"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects"},
        "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": schema}],
    }
    manifest = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": spec,
    }
    if not kubectl("get", "crd", name, "--ignore-not-found"):
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")


@pytest.mark.usefixtures("keda")
def test_keda_on_the_same_deployment_is_refused_once_and_on_others_left_alone(
    server: ProviderServer, stack: Stack
) -> None:
    for name, target in (("mine", "web"), ("theirs", "shop")):
        item = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name}}
        stack.apply({**item, "spec": {"scaleTargetRef": {"name": target}, "triggers": []}})

    _, ((key, reason),) = server.check(stack.declared(deployments=["web"]))

    assert key == "deployments"
    assert "ScaledObject mine scales Deployment web too" in reason


def test_another_cluster_is_refused_at_preview_update_refresh_and_destroy(
    server: ProviderServer, stack: Stack
) -> None:
    declared = stack.declared()
    resource = server.up(declared)
    resource.inputs["cluster_uid"] = resource.outputs["cluster_uid"] = "another"

    _, ((key, reason),) = server.check(declared, resource.inputs)

    assert key == "context"
    assert "this is another cluster than the stack was deployed to" in reason
    for deed in (
        lambda: server.update(resource, declared),
        lambda: server.read(resource),
        lambda: server.delete(resource),
    ):
        with pytest.raises(ProviderError, match="this is another cluster"):
            deed()


def test_rights_that_lack_are_listed_at_the_first_preview(
    server: ProviderServer, stack: Stack, kubeconfig: Path, tmp_path: Path
) -> None:
    """One who may only look at things in this namespace."""
    stack.kubectl("create", "serviceaccount", "guest", "-n", stack.namespace)
    stack.kubectl(
        *("create", "rolebinding", "guest", "-n", stack.namespace, "--clusterrole=view"),
        f"--serviceaccount={stack.namespace}:guest",
    )
    settings = yaml.safe_load(kubeconfig.read_text())
    token = stack.kubectl("create", "token", "guest", "-n", stack.namespace).strip()
    for entry in settings["users"]:
        entry["user"] = {"token": token}
    guest = tmp_path / "config"
    guest.write_text(yaml.safe_dump(settings))

    inputs, ((key, reason),) = server.check(stack.declared(kubeconfig_path=str(guest)))

    assert key == "context"
    assert "does not let you create deployments.apps, create services, create secrets, " in reason
    assert "patch customresourcedefinitions.apiextensions.k8s.io" in reason
    assert inputs["cluster_uid"] == ""
    assert token not in json.dumps(inputs)


def test_a_context_that_is_not_there_is_refused_at_preview(server: ProviderServer, stack: Stack) -> None:
    _, ((key, reason),) = server.check(stack.declared(context="nowhere"))

    assert key == "context"
    assert "context 'nowhere' is not in the kubeconfig; it has " in reason
    assert "pulumi config set kubernetes:context NAME" in reason


def test_a_cluster_that_does_not_answer_is_named_at_preview_and_holds_up_no_discard(
    server: ProviderServer, stack: Stack, kubeconfig: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "config"
    settings = yaml.safe_load(kubeconfig.read_text())
    for entry in settings["clusters"]:
        entry["cluster"]["server"] = "https://127.0.0.1:9"
    elsewhere.write_text(yaml.safe_dump(settings))
    declared = stack.declared(kubeconfig_path=str(elsewhere), on_destroy="discard")

    _, ((key, reason),) = server.check(declared)

    assert key == "context"
    assert "https://127.0.0.1:9" in reason
    assert "cannot be reached" in reason
    server.delete(Resource("id", declared, {**declared, "cluster_uid": "some"}))
    assert "removed from the state without asking the cluster" in server.stop()


def test_a_preview_that_does_not_know_its_namespace_yet_is_passed_on(
    server: ProviderServer, stack: Stack
) -> None:
    declared = stack.declared(namespace=UNKNOWN)

    inputs, failures = server.check(declared)

    assert failures == []
    assert inputs["namespace"] == UNKNOWN
    known = stack.declared()
    assert server.diff(Resource("id", known, known), declared) == (True, [])


def test_refresh_keeps_the_state_as_long_as_the_namespace_is_there(
    server: ProviderServer, stack: Stack
) -> None:
    resource = server.up(stack.declared())

    assert server.read(resource) == resource
    gone = Resource(resource.id, resource.inputs, {**resource.outputs, "namespace": "not-there"})
    assert server.read(gone).id == ""


def test_the_kubeconfig_of_the_stacks_configuration_is_used_and_never_recorded(
    kubeconfig: Path, stack: Stack, tmp_path: Path
) -> None:
    """It may hold credentials, so it comes through `configure` and stays out of the inputs."""
    config = {"kubernetes:kubeconfig": kubeconfig.read_text()}
    with ProviderServer(
        LifecycleProvider(), config=config, environment={"KUBECONFIG": str(tmp_path / "none")}
    ) as server:
        resource = server.up(stack.declared(on_destroy="discard"))

        server.delete(resource)

    assert "client-key" not in json.dumps([resource.inputs, resource.outputs])


@pytest.mark.usefixtures("crd")
def test_up_returns_when_the_scaler_reports_ready_for_this_generation(
    server: ProviderServer, stack: Stack
) -> None:
    stack.declare_pool()
    stack.report(conditions=[WATCHING])

    resource = server.up(stack.declared(celeries={"web": "1"}))

    assert resource.outputs["celeries"] == {"web": "1"}


@pytest.mark.usefixtures("crd")
def test_the_scalers_own_reason_fails_the_up(server: ProviderServer, stack: Stack) -> None:
    stack.declare_pool()
    stack.report(conditions=[ready("False", Ready.BROKER_REFUSED, "WRONGPASS invalid password")])

    message, seconds = failure_of(server, stack.declared(celeries={"web": "1"}, ready_timeout_seconds=5))

    _, _, reason = message.partition(" s:\n")
    assert reason == (
        "- Celery object web: BrokerRefused: WRONGPASS invalid password. The broker's Secret must hold the "
        "password that the broker was started with."
    )
    assert seconds < PATIENCE_SECONDS


@pytest.mark.usefixtures("crd")
def test_what_the_scaler_said_of_an_older_generation_does_not_count(
    server: ProviderServer, stack: Stack
) -> None:
    stack.declare_pool()
    stack.report(conditions=[WATCHING])
    change = [{"op": "replace", "path": "/spec/scaleTargetRef/0/maxReplicas", "value": 3}]
    stack.kubectl(
        *("patch", contract.CRD_NAME, "web", "-n", stack.namespace, "--type=json", "-p", json.dumps(change))
    )

    message, _ = failure_of(server, stack.declared(celeries={"web": "2"}, ready_timeout_seconds=5))

    assert "Celery object web: the scaler has not reported on generation 2 of it" in message


@pytest.mark.usefixtures("crd")
def test_a_newer_schema_on_the_cluster_is_refused_at_preview(server: ProviderServer, stack: Stack) -> None:
    live = json.loads(stack.kubectl("get", "crd", contract.CRD_NAME, "-o", "json"))
    revision = int(live["metadata"]["annotations"][fleet_schema.REVISION_ANNOTATION])

    _, failures = server.check(stack.declared(schema_revision=revision - 1))

    reason = (
        f"the cluster's {contract.CRD_NAME} has schema revision {revision}, this program knows "
        f"{revision - 1}: an older schema would drop newer fields from other stacks' objects. "
        "Update Celery Fleet, then `pulumi up`"
    )
    assert failures == [("schema_revision", reason)]


NONE = {"queued": 0, "unacked": 0, "active": 0}


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(
    ("status", "left"),
    [
        ({**NONE, "queued": 120, "unacked": 3}, "with tasks left: 120 queued, 3 unacked, 0 active"),
        ({**NONE, "active": 3}, "with tasks left: 0 queued, 0 unacked, 3 active"),
        (
            {"queued": 0, "unacked": 0},
            "while its scaler does not know how many tasks are left: how many tasks are active is not known",
        ),
    ],
)
def test_a_pool_that_would_vanish_with_tasks_left_is_refused_at_preview(
    server: ProviderServer, stack: Stack, status: dict[str, int], left: str
) -> None:
    stack.deploy(contract.SCALER_NAME)
    stack.declare_pool("old")
    stack.report("old", conditions=[WATCHING], **status)
    deployments = [contract.SCALER_NAME]
    before = server.up(stack.declared(celeries={"old": "1"}, deployments=deployments)).inputs

    _, failures = server.check(stack.declared(deployments=deployments), before)
    _, discarding = server.check(stack.declared(deployments=deployments, on_destroy="discard"), before)

    reason = (
        f"pool old would vanish from namespace {stack.namespace} {left}. Declare it until it has drained "
        f"(kubectl get cel old -n {stack.namespace}), or give its queued tasks up: pulumi config set "
        "onDestroy discard"
    )
    assert failures == [("celeries", reason)]
    assert discarding == []


@pytest.mark.usefixtures("crd")
def test_a_drained_pool_may_vanish(server: ProviderServer, stack: Stack) -> None:
    stack.deploy(contract.SCALER_NAME)
    stack.declare_pool("old")
    stack.report("old", conditions=[WATCHING], **NONE)
    deployments = [contract.SCALER_NAME]
    before = server.up(stack.declared(celeries={"old": "1"}, deployments=deployments)).inputs

    assert server.check(stack.declared(deployments=deployments), before)[1] == []


@pytest.mark.usefixtures("crd")
def test_a_destroy_reads_a_real_api_server(server: ProviderServer, stack: Stack) -> None:
    """The whole wait, the scaler's part played: its pod, its figures and the renewals of its Lease."""
    stack.deploy(contract.SCALER_NAME)
    stack.deploy("sample-app")
    stack.declare_pool("web")
    stack.report("web", conditions=[WATCHING], **{**NONE, "queued": 7})
    names = [contract.SCALER_NAME, "sample-app"]
    declared = stack.declared(celeries={"web": "1"}, deployments=names, producers=["sample-app"])
    resource = server.up(declared)
    over = threading.Event()

    def play() -> None:
        for beat in range(60):
            spec = {"holderIdentity": "scaler-0", "renewTime": f"2026-01-01T00:00:{beat:02}.000000Z"}
            metadata = {"name": contract.SCALER_NAME}
            stack.apply(
                {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            )
            if beat == 3:
                stack.report("web", **NONE)
            if over.wait(1):
                return

    player = threading.Thread(target=play)
    player.start()
    try:
        server.delete(resource)
    finally:
        over.set()
        player.join()

    assert stack.get("deployment", "sample-app")["spec"]["replicas"] == 0
    assert "no task is left after" in server.stop()


def test_two_stacks_in_one_namespace_are_refused_at_preview(server: ProviderServer, stack: Stack) -> None:
    stack.deploy(contract.SCALER_NAME, replicas=0)
    stack.kubectl(
        *("label", "deployment", contract.SCALER_NAME, "-n", stack.namespace),
        "app.kubernetes.io/instance=prod",
    )

    _, ((key, reason),) = server.check(stack.declared())

    assert key == "namespace"
    assert f"stack prod lives in namespace {stack.namespace}" in reason
    assert server.check(stack.declared(stack="prod"))[1] == []
