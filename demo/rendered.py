"""Owns the deployment without Pulumi's engine: rendered manifests, `kubectl apply`, and the Secrets.

The manifests and the list of Secrets are `infra.manifests`' own output, asked for as anybody would.
The namespace and the Celery objects' definition go first, since the rest needs them to be there.
It waits for nothing but that on the way up; when the fleet is ready is the caller's question. On the way
down it has the scaler wait until no task is left, as `pulumi destroy` does.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from demo.cluster import Cluster
from demo.commands import DemoError, run
from scaler.contract import SCALER_NAME

Manifest = dict[str, Any]

DEFINITION = "celery.celeryproject.org"
DEFINITION_MANAGER = "celery-fleet-crd"
"""The field manager of `infra.components.fleet_objects`, so that stacks of both kinds own the definition
together."""
WORKERS = "app.kubernetes.io/component=worker"
PRODUCERS = "app.kubernetes.io/component in (beat,sample)"
NOT_EMPTY = "the fleet is not known to be empty"
"""How `python -m scaler drain` begins to say so."""
PLACEHOLDER = re.compile(r"<[a-z-]*password>")
APPLY_SECONDS = 120
DRAIN_SECONDS = 600
REMOVE_SECONDS = 300


class TasksLeft(DemoError):  # noqa: N818  # the fact, not the failure
    """Nothing was removed."""


def apply(
    cluster: Cluster,
    stack: str,
    settings: Mapping[str, str],
    *,
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> None:
    """`change` is for what a stack has no setting for, as an overlay of kustomize would be."""
    manifests = [change(manifest) for manifest in render(stack, settings)]
    first = [m for m in manifests if m["kind"] == "Namespace"]
    definitions = [m for m in manifests if m["kind"] == "CustomResourceDefinition"]
    _apply(cluster, first)
    _apply(cluster, definitions, f"--field-manager={DEFINITION_MANAGER}")
    established = ("wait", "--for=condition=Established", f"crd/{DEFINITION}", "--timeout=30s")
    cluster.kubectl(*established)
    _make_secrets(cluster, json.loads(_ask(stack, settings, "--secrets")))
    _apply(cluster, [m for m in manifests if m not in first and m not in definitions])


def render(stack: str, settings: Mapping[str, str]) -> list[Manifest]:
    return list(yaml.safe_load_all(_ask(stack, settings)))


def drain(cluster: Cluster, namespace: str, *, seconds: int = DRAIN_SECONDS) -> None:
    """Return when no task is left. Raises TasksLeft, with nothing changed."""
    here = f"--namespace={namespace}"
    if not cluster.kubectl("get", "namespace", namespace, "--ignore-not-found"):
        return
    producers = cluster.get("deployment", here, f"--selector={PRODUCERS}")["items"]
    # At 0 they were left by a drain that was interrupted: the program declares 1.
    replicas = {item["metadata"]["name"]: max(1, item["spec"]["replicas"]) for item in producers}
    _scale(cluster, here, dict.fromkeys(replicas, 0))
    judge = ("python3", "-m", "scaler", "drain", f"--timeout={seconds}")
    scaler = ("exec", here, f"deployment/{SCALER_NAME}", "--")
    try:
        cluster.kubectl(*scaler, *judge, timeout_seconds=seconds + 60)
    except DemoError as trouble:
        _scale(cluster, here, replicas)
        if NOT_EMPTY in str(trouble):
            raise TasksLeft(str(trouble)) from trouble
        raise


def _scale(cluster: Cluster, here: str, replicas: Mapping[str, int]) -> None:
    for name, count in replicas.items():
        cluster.kubectl("scale", "deployment", name, here, f"--replicas={count}")


def remove(cluster: Cluster, namespace: str) -> None:
    """The namespace with all that is in it; the definition stays, other stacks may need it.

    Workers first: all at once, Redis would go while they finish their tasks.
    """
    timeout = f"--timeout={REMOVE_SECONDS}s"
    workers = ("deployment", f"--namespace={namespace}", f"--selector={WORKERS}", "--cascade=foreground")
    cluster.kubectl("delete", *workers, timeout, timeout_seconds=REMOVE_SECONDS + 10)
    cluster.kubectl(
        "delete", "namespace", namespace, "--ignore-not-found", timeout, timeout_seconds=REMOVE_SECONDS + 10
    )


def filled(forms: Mapping[str, str]) -> dict[str, str]:
    """The values of a Secret: a password of its own for each placeholder, the same in all the values."""
    made: defaultdict[str, str] = defaultdict(lambda: secrets.token_urlsafe(24))
    return {key: PLACEHOLDER.sub(lambda found: made[found[0]], form) for key, form in forms.items()}


def _ask(stack: str, settings: Mapping[str, str], *more: str) -> str:
    chosen = [f"--set={key}={value}" for key, value in settings.items()]
    words = [sys.executable, "-m", "infra.manifests", f"--stack={stack}", *chosen, *more]
    return run(words, timeout_seconds=60)


def _apply(cluster: Cluster, manifests: Sequence[Manifest], *options: str) -> None:
    if not manifests:
        return  # a namespace that somebody else made
    text = yaml.safe_dump_all(manifests)
    words = ("apply", "--server-side", "--filename=-", *options)
    cluster.kubectl(*words, stdin=text, timeout_seconds=APPLY_SECONDS)


def _make_secrets(cluster: Cluster, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Those that are not there."""
    for secret in wanted:
        here = f"--namespace={secret['namespace']}"
        try:
            cluster.kubectl("get", "secret", secret["name"], here)
        except DemoError:
            data = filled(secret["keys"])
            metadata = {"name": secret["name"], "namespace": secret["namespace"]}
            # By a file: arguments show in process lists.
            manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
            cluster.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
