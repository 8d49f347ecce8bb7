"""Owns KEDA on the cluster while it is compared: its own manifests with our image, and their removal.

They are those of a release without the admission webhooks (`config/minimal`), which take no part in scaling.
It refuses a cluster on which KEDA, or another server of external metrics, is installed already: both are
cluster-wide, and somebody would lose theirs. A definition of ScaledObjects alone, as tests of ours leave one,
is put back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import yaml

from bench.keda import build
from bench.memory import resident_megabytes
from demo.cluster import Cluster
from demo.commands import DemoError, say
from demo.diagnosis import diagnosis

NAMESPACE: Final = "keda"
OPERATOR: Final = "keda-operator"
ADAPTER: Final = "keda-metrics-apiserver"
METRICS: Final = "apiservice/v1beta1.external.metrics.k8s.io"
DEFINITION: Final = "CustomResourceDefinition"
FINALIZER: Final = "finalizer.keda.sh"
WITH_FINALIZER: Final = ("scaledobjects.keda.sh", "triggerauthentications.keda.sh")
APPLY_SECONDS: Final = 120
READY_SECONDS: Final = 300
REMOVE_SECONDS: Final = 180

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keda:
    cluster: Cluster

    def megabytes(self) -> dict[str, float]:
        return {name: resident_megabytes(self.cluster, NAMESPACE, name) for name in (OPERATOR, ADAPTER)}


@contextmanager
def installed(cluster: Cluster, image: str) -> Iterator[Keda]:
    """`image` is one of the node's."""
    _refuse_another(cluster)
    manifests = _manifests(cluster, image)
    before = _definitions(cluster, manifests)
    try:
        say(f"Installing KEDA {build.version()}: about 2 min")
        words = ("apply", "--server-side", "--force-conflicts", "--filename=-")
        cluster.kubectl(*words, stdin=yaml.safe_dump_all(manifests), timeout_seconds=APPLY_SECONDS)
        _wait(cluster)
        yield Keda(cluster=cluster)
    except Exception:
        say(diagnosis(cluster, NAMESPACE))
        raise
    finally:
        _remove(cluster, manifests, before)


def remove(cluster: Cluster) -> None:
    """What a killed run left behind: all that `installed` makes, the definition of ScaledObjects too."""
    _remove(cluster, _manifests(cluster, image=""), before=[])


def _refuse_another(cluster: Cluster) -> None:
    for what in (METRICS, f"namespace/{NAMESPACE}"):
        if cluster.kubectl("get", what, "--ignore-not-found", "--output=name"):
            raise DemoError(
                f"There is {what} already: another KEDA, or the rest of a run that was killed. This would "
                "replace and then remove it. If it is nobody's: python -m bench.keda --remove"
            )


def _manifests(cluster: Cluster, image: str) -> list[Manifest]:
    """In the order in which they are made: the namespace and the definitions first."""
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
    """The operator makes the certificates and the Secret, ends, and starts again once they are mounted; the
    adapter fails until its own mount has them. The kubelet brings them within 90 s."""
    here, timeout = f"--namespace={NAMESPACE}", f"--timeout={READY_SECONDS}s"
    for name in (OPERATOR, ADAPTER):
        rollout = ("rollout", "status", f"deployment/{name}", here, timeout)
        cluster.kubectl(*rollout, timeout_seconds=READY_SECONDS + 10)
    cluster.kubectl("wait", "--for=condition=Available", METRICS, timeout, timeout_seconds=READY_SECONDS + 10)


def _definitions(cluster: Cluster, manifests: list[Manifest]) -> list[Manifest]:
    """Those that the cluster has already, as they can be written again."""
    names = {one["metadata"]["name"] for one in manifests if one["kind"] == DEFINITION}
    found = (one for one in cluster.get("crd")["items"] if one["metadata"]["name"] in names)
    return [{**one, "metadata": {"name": one["metadata"]["name"]}} for one in found]


def _remove(cluster: Cluster, manifests: list[Manifest], before: list[Manifest]) -> None:
    """Each step, whatever becomes of the others; what they said is raised in the end."""
    say("Removing KEDA: about 30 s")
    kept = {one["metadata"]["name"] for one in before}
    deployments = [one for one in manifests if one["kind"] == "Deployment"]
    rest = [one for one in reversed(manifests) if one["metadata"]["name"] not in kept]
    troubles = []
    steps: list[Callable[[], None]] = [
        partial(_delete, cluster, deployments),
        # An operator that lives would put its finalizer on again.
        partial(_release, cluster),
        partial(_delete, cluster, rest),
        partial(_put_back, cluster, before),
    ]
    for step in steps:
        try:
            step()
        except DemoError as trouble:
            troubles.append(str(trouble))
    if troubles:
        raise DemoError("\n".join([*troubles, "For what is left of KEDA: python -m bench.keda --remove"]))


def _delete(cluster: Cluster, manifests: list[Manifest]) -> None:
    words = ("delete", "--ignore-not-found", f"--timeout={REMOVE_SECONDS}s", "--filename=-")
    cluster.kubectl(*words, stdin=yaml.safe_dump_all(manifests), timeout_seconds=REMOVE_SECONDS + 10)


def _release(cluster: Cluster) -> None:
    """What a failed run left behind: KEDA's finalizer waits for an operator that has gone."""
    for definition in WITH_FINALIZER:
        if not cluster.kubectl("get", f"crd/{definition}", "--ignore-not-found", "--output=name"):
            continue
        for item in cluster.get(definition, "--all-namespaces")["items"]:
            metadata = item["metadata"]
            if FINALIZER in metadata.get("finalizers", ()):
                here = f"--namespace={metadata['namespace']}"
                patch = json.dumps({"metadata": {"finalizers": None}})
                words = ("patch", definition, metadata["name"], here, "--type=merge", f"--patch={patch}")
                cluster.kubectl(*words)


def _put_back(cluster: Cluster, before: list[Manifest]) -> None:
    if before:
        cluster.kubectl("replace", "--filename=-", stdin=yaml.safe_dump_all(before))
