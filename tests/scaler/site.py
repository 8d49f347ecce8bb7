"""A namespace on a real cluster with one pool in it, as the tests of the scaler's requests need it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scaler import contract
from tests.conftest import Kubectl
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
    labels = {"app": "sums"}
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
