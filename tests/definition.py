"""Owns the definition of `Celery` objects on a cluster without a stack: as a stack applies it.

With the schema's revision on it, or a program would take the definition for one of nobody's.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from infra.components.fleet_objects import FIELD_MANAGER, FIELD_MANAGER_ANNOTATION, definition
from infra.components.fleet_schema import REVISION, REVISION_ANNOTATION
from scaler.contract import CRD_NAME


def define(kubectl: Callable[..., str]) -> None:
    """It stays, as it does for a stack."""
    manifest = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": CRD_NAME,
            "annotations": {FIELD_MANAGER_ANNOTATION: FIELD_MANAGER, REVISION_ANNOTATION: str(REVISION)},
        },
        "spec": definition(),
    }
    manager = f"--field-manager={FIELD_MANAGER}"
    kubectl("apply", "--server-side", "--force-conflicts", manager, "-f", "-", stdin=json.dumps(manifest))
    kubectl("wait", "--for=condition=Established", f"crd/{CRD_NAME}", "--timeout=30s")
