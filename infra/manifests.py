"""The same stack as plain manifests, for clusters that are not deployed to by Pulumi's engine.

It owns the way from the recorded program (`infra.recording`) to YAML for `kubectl apply --server-side`:
GitOps, air-gapped clusters, this project's own end-to-end tests. What it leaves out, and why:

Secrets, whose values have no place in a file; the first lines name them with the command that makes them,
and `--secrets` lists them for programs. The workers' replicas, which belong to the scaler, so that applying
again does not undo the scaling. Dynamic resources, which are nothing in the cluster: nobody waits for Ready
here, `kubectl wait --for=condition=Ready cel --all` does. The engine's own annotations, but the one of the
definition, which all stacks of a cluster share, however they were deployed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from infra.components import broker, flower, result_backend
from infra.components.credentials import MARKS
from infra.components.fleet_objects import FIELD_MANAGER, FIELD_MANAGER_ANNOTATION
from infra.recording import Hidden, Recorded, record
from infra.settings import PROJECT, Configuration, Settings, WrongSettings, load
from scaler import contract

STACKS: Final = Path(__file__).parent.parent / "stacks"
OURS: Final = "pulumi.com/"

ORDER: Final = (
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Service",
    "PodDisruptionBudget",
    "Deployment",
    "Celery",
)
"""In which kinds are applied; within a kind, the program's order."""

PRODUCERS: Final = "app.kubernetes.io/component in (beat,sample)"
WORKERS: Final = "app.kubernetes.io/component=worker"
EACH: Final = "cel,deploy,svc,cm,pdb,netpol,rolebinding,role,sa,pvc"
"""As kubectl calls the kinds of `ORDER` that lie in a namespace."""


def configuration(stack: str, overrides: Mapping[str, str]) -> Configuration:
    """What the engine would hand over: the stack's file, with `overrides` for flat keys."""
    path = STACKS / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.name.split(".")[1] for file in STACKS.glob("Pulumi.*.yaml")))
        raise WrongSettings(f"there is no stack {stack}: {path} is not there. There are: {known}.")
    values, secret = {}, set()
    for key, value in (yaml.safe_load(path.read_text()).get("config") or {}).items():
        if isinstance(value, dict) and "secure" in value:
            secret.add(key)  # only the engine can decrypt it, and only a Secret would show it
        else:
            values[key] = value if isinstance(value, str) else json.dumps(value)
    values |= {key if ":" in key else f"{PROJECT}:{key}": value for key, value in overrides.items()}
    return Configuration(stack=stack, values=values, secret_keys=frozenset(secret))


def manifests(resources: Iterable[Recorded]) -> list[dict[str, Any]]:
    """The recorded Kubernetes objects, without Secrets, in the order in which to apply them."""
    found = [_manifest(resource) for resource in resources if resource.is_kubernetes_object]
    kept = [manifest for manifest in found if manifest["kind"] != "Secret"]
    return sorted(kept, key=lambda manifest: (ORDER.index(manifest["kind"]), manifest["metadata"]["name"]))


def secrets(settings: Settings, resources: Iterable[Recorded]) -> list[dict[str, Any]]:
    """The Secrets to make: their names and keys, and the form of each value."""
    forms = {
        broker.SECRET: broker.forms(settings),
        result_backend.SECRET: result_backend.forms(settings),
        flower.AUTH_SECRET: flower.FORMS,
    }
    made = [resource.inputs["metadata"] for resource in resources if resource.inputs.get("kind") == "Secret"]
    return [
        {"name": metadata["name"], "namespace": metadata["namespace"], "keys": forms[metadata["name"]]}
        for metadata in sorted(made, key=lambda metadata: str(metadata["name"]))
    ]


def header(settings: Settings, wanted: Iterable[Mapping[str, Any]]) -> str:
    """The comment that says how to apply the rest."""
    lines = [
        f"# Celery Fleet, stack {settings.stack}: made by python -m infra.manifests --stack {settings.stack}",
        "# Apply with: kubectl apply --server-side -f -",
        "# The first apply of a cluster's life ends with an error for each Celery object: kubectl looks its",
        "# kinds up before the definition among these manifests is there. Apply again.",
        f"# Where Pulumi deploys here, too, apply the definition with --field-manager={FIELD_MANAGER}.",
    ]
    if settings.create_namespace and wanted:
        lines.append(
            f"# These Secrets are not among them; first: kubectl create namespace {settings.namespace}"
        )
    for secret in wanted:
        values = " ".join(f"--from-literal={key}='{form}'" for key, form in secret["keys"].items())
        lines.append(f"#   kubectl create secret generic {secret['name']} -n {secret['namespace']} {values}")
    return "\n".join([*lines, *_way_down(settings)]) + "\n"


def _way_down(settings: Settings) -> list[str]:
    here = f"-n {settings.namespace}"
    rest = (
        f"kubectl delete namespace {settings.namespace}"
        if settings.create_namespace
        else f"kubectl delete {EACH} {here} -l app.kubernetes.io/instance={settings.stack}"
    )
    return [
        "# To take it down, in this order: `kubectl delete -f` takes the broker while tasks run; with the",
        "# definition every stack's Celery objects. First stop what publishes, yours and these:",
        f"#   kubectl scale deployment {here} -l '{PRODUCERS}' --replicas=0",
        f"#   kubectl exec {here} deployment/{contract.SCALER_NAME} -- python3 -m scaler drain",
        f"#   kubectl delete deployment {here} -l {WORKERS} --cascade=foreground",
        f"#   {rest}",
    ]


def render(settings: Settings) -> str:
    resources = record(settings)
    documents = yaml.safe_dump_all(manifests(resources), sort_keys=False, width=110)
    return header(settings, secrets(settings, resources)) + "---\n" + documents


def _manifest(resource: Recorded) -> dict[str, Any]:
    inputs: dict[str, Any] = dict(resource.inputs)
    metadata = dict(inputs.pop("metadata"))
    annotations = {
        key: value
        for key, value in metadata.pop("annotations", {}).items()
        if not key.startswith(OURS) or key == FIELD_MANAGER_ANNOTATION
    }
    metadata |= {"annotations": annotations} if annotations else {}
    ordered = {"apiVersion": inputs.pop("apiVersion"), "kind": inputs.pop("kind"), "metadata": metadata}
    if "spec.replicas" in resource.ignore_changes:
        inputs["spec"] = {key: value for key, value in inputs["spec"].items() if key != "replicas"}
    if ordered["kind"] == "Deployment":
        inputs["spec"] = _without_mark(inputs["spec"])
    if ordered["kind"] != "Secret":
        _refuse_hidden(inputs, resource.name)
    return {**ordered, **inputs}


def _without_mark(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The password is made elsewhere, so there is nothing that could change with it."""
    template = spec["template"]
    metadata = {key: value for key, value in template["metadata"].items() if key != "annotations"}
    annotations = {
        key: value for key, value in template["metadata"].get("annotations", {}).items() if key not in MARKS
    }
    metadata |= {"annotations": annotations} if annotations else {}
    return {**spec, "template": {**template, "metadata": metadata}}


def _refuse_hidden(value: Any, name: str) -> None:
    if isinstance(value, Hidden):
        raise ValueError(f"{name} holds a secret outside of a Secret: it cannot be rendered")
    for entry in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _refuse_hidden(entry, name)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.manifests", description="Render a stack.")
    parser.add_argument("--stack", required=True, help="its file is stacks/Pulumi.<stack>.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value")
    parser.add_argument("--secrets", action="store_true", help="list the Secrets to make, as JSON")
    chosen = parser.parse_args(arguments)
    try:
        overrides = dict(pair.split("=", 1) for pair in chosen.set)
        settings = load(configuration(chosen.stack, overrides))
    except WrongSettings as wrong:
        print(wrong, file=sys.stderr)
        return 1
    except ValueError:
        parser.error("--set takes KEY=VALUE")
    if chosen.secrets:
        print(json.dumps(secrets(settings, record(settings)), indent=2))
    else:
        print(render(settings), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
