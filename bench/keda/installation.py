"""Owns KEDA on the cluster while it is compared: its own manifests with our image, and their removal.

They are those of a release without the admission webhooks (`config/minimal`), which take no part in scaling.
It refuses a cluster on which KEDA, or another server of external metrics, is installed already: both are
cluster-wide, and somebody would lose theirs. A definition of ScaledObjects alone, as tests of ours leave one,
is put back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import yaml

from bench.keda import build
from bench.memory import resident_megabytes
from demo.cluster import Cluster
from demo.commands import DemoError, say

NAMESPACE: Final = "keda"
OPERATOR: Final = "keda-operator"
ADAPTER: Final = "keda-metrics-apiserver"
METRICS: Final = "apiservice/v1beta1.external.metrics.k8s.io"
DEFINITION: Final = "CustomResourceDefinition"
FINALIZER: Final = "finalizer.keda.sh"
SCALED_OBJECTS: Final = "scaledobjects.keda.sh"
READY_SECONDS: Final = 240
REMOVE_SECONDS: Final = 180

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keda:
    cluster: Cluster

    def megabytes(self) -> dict[str, float]:
        return {name: resident_megabytes(self.cluster, NAMESPACE, name) for name in (OPERATOR, ADAPTER)}


@contextmanager
def installed(cluster: Cluster) -> Iterator[Keda]:
    _refuse_another(cluster)
    manifests = _manifests(cluster, build.image())
    before = _definitions(cluster, manifests)
    try:
        say(f"Installing KEDA {build.version()}: about 1 min")
        words = ("apply", "--server-side", "--force-conflicts", "--filename=-")
        cluster.kubectl(*words, stdin=yaml.safe_dump_all(manifests), timeout_seconds=120)
        _wait(cluster)
        yield Keda(cluster=cluster)
    finally:
        _remove(cluster, manifests, before)


def _refuse_another(cluster: Cluster) -> None:
    for what in (METRICS, f"namespace/{NAMESPACE}"):
        if cluster.kubectl("get", what, "--ignore-not-found", "--output=name"):
            raise DemoError(
                f"There is {what} already: another KEDA, or the rest of a run that was killed. "
                "This would replace and then remove it; remove it first if it is nobody's"
            )


def _manifests(cluster: Cluster, image: str) -> list[Manifest]:
    folder = build.module() / "config" / "minimal"
    manifests: list[Manifest] = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container |= {"image": image, "imagePullPolicy": "Never"}
            if manifest["metadata"]["name"] == OPERATOR:
                container["args"].append("--enable-webhook-patching=false")
    return manifests


def _wait(cluster: Cluster) -> None:
    here, timeout = f"--namespace={NAMESPACE}", f"--timeout={READY_SECONDS}s"
    # The adapter's pod starts when the operator has made the certificates.
    for name in (OPERATOR, ADAPTER):
        rollout = ("rollout", "status", f"deployment/{name}", here, timeout)
        cluster.kubectl(*rollout, timeout_seconds=READY_SECONDS + 10)
    cluster.kubectl("wait", "--for=condition=Available", METRICS, timeout, timeout_seconds=READY_SECONDS + 10)


def _definitions(cluster: Cluster, manifests: list[Manifest]) -> list[Manifest]:
    """Those that the cluster has already, as they can be written again."""
    names = [one["metadata"]["name"] for one in manifests if one["kind"] == DEFINITION]
    found: list[Manifest] = cluster.get("crd", *names, "--ignore-not-found").get("items", [])
    return [{**one, "metadata": {"name": one["metadata"]["name"]}} for one in found]


def _remove(cluster: Cluster, manifests: list[Manifest], before: list[Manifest]) -> None:
    say("Removing KEDA")
    _release(cluster)
    kept = {one["metadata"]["name"] for one in before}
    text = yaml.safe_dump_all([one for one in manifests if one["metadata"]["name"] not in kept])
    timeout = f"--timeout={REMOVE_SECONDS}s"
    words = ("delete", "--ignore-not-found", timeout, "--filename=-")
    cluster.kubectl(*words, stdin=text, timeout_seconds=REMOVE_SECONDS + 10)
    if before:
        cluster.kubectl("replace", "--filename=-", stdin=yaml.safe_dump_all(before))


def _release(cluster: Cluster) -> None:
    """What a failed run left behind: KEDA's finalizer waits for an operator that is about to go."""
    if not cluster.kubectl("get", f"crd/{SCALED_OBJECTS}", "--ignore-not-found", "--output=name"):
        return
    for item in cluster.get(SCALED_OBJECTS, "--all-namespaces")["items"]:
        metadata = item["metadata"]
        if FINALIZER in metadata.get("finalizers", ()):
            here = f"--namespace={metadata['namespace']}"
            patch = json.dumps({"metadata": {"finalizers": None}})
            words = ("patch", SCALED_OBJECTS, metadata["name"], here, "--type=merge", f"--patch={patch}")
            cluster.kubectl(*words)
