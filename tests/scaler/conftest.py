"""A pool on a real cluster, and the rights of the scaler's Role to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from infra import fleet_objects
from scaler import contract
from tests.conftest import Kubectl
from tests.scaler.site import Site, celery, deployment


@pytest.fixture(scope="session")
def defined(kubectl: Kubectl) -> Kubectl:
    """kubectl on a cluster that has the project's own CustomResourceDefinition."""
    name = contract.CRD_NAME
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": fleet_objects.definition(),
    }
    manager = f"--field-manager={fleet_objects.FIELD_MANAGER}"
    kubectl("apply", "--server-side", manager, "-f", "-", stdin=json.dumps(body))
    kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    return kubectl


@pytest.fixture
def site(defined: Kubectl, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Workers, a `Celery` object, and a `KUBECONFIG` with the rights of the scaler's Role and no others."""
    made = Site(defined, namespace)
    name = contract.SCALER_NAME
    made.grant(contract.RBAC_RULES)
    made.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
        deployment(),
        celery(),
    )
    config = yaml.safe_load(defined("config", "view", "--raw", "--flatten", "--minify"))
    config["users"][0]["user"] = {"token": made.run("create", "token", name).strip()}
    path = tmp_path / "limited"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return made
