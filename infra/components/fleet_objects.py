"""The CustomResourceDefinition of `Celery`, and one `Celery` object per pool.

It owns how they come and go. The CRD is cluster-wide while stacks are per environment, so each stack
applies it as a patch under one shared field manager, and no stack ever deletes it: with the CRD would go
every object of every stack (pulumi/pulumi-kubernetes#531). A plain CustomResourceDefinition would fail
with AlreadyExists in the second stack.

The object is what the scaler reads and reports on. It carries no finalizer: nothing has to run for it to
be deleted. The schema is in `infra.components.fleet_schema` and `infra.components.fleet_status`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes import apiextensions

from infra.components import fleet_schema, fleet_status
from infra.components.pod_baseline import Identity
from infra.settings import Settings
from infra.settings.delivery import drain_seconds
from infra.settings.pool import Pool
from scaler import contract

FIELD_MANAGER: Final = "celery-fleet-crd"
FIELD_MANAGER_ANNOTATION: Final = "pulumi.com/patchFieldManager"
"""An apply by this manager that lacks it takes it off, and the next `pulumi refresh` lists a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetObjectsArgs:
    settings: Settings
    own_crd: bool
    """False leaves a CRD alone that is newer than this program's."""


class FleetObjects(pulumi.ComponentResource):
    digests: Mapping[str, str]
    """Of each object's spec, by its name."""

    def __init__(self, name: str, args: FleetObjectsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:FleetObjects", name, None, opts)
        settings = args.settings
        needed = [_definition(name, self)] if args.own_crd else []
        specs = {pool.name: celery_spec(settings, pool) for pool in settings.pools}
        for pool in settings.pools:
            identity = Identity(stack=settings.stack, name="celery", component="pool", pool=pool.name)
            metadata: Any = {
                "name": pool.name,
                "namespace": settings.namespace,
                "labels": identity.labels,
                "annotations": {contract.SETTINGS_ANNOTATION: pool.settings_path},
            }
            apiextensions.CustomResource(
                f"{name}-{pool.name}",
                api_version=contract.API_VERSION,
                kind=contract.KIND,
                metadata=metadata,
                spec=specs[pool.name],
                opts=pulumi.ResourceOptions(parent=self, depends_on=needed),
            )
        self.digests = {pool: digest(spec) for pool, spec in specs.items()}
        self.register_outputs({})


def definition() -> dict[str, Any]:
    """`spec` of the CustomResourceDefinition."""
    version = {
        "name": contract.VERSION,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "A pool of Celery workers that follows its queues.",
                "required": ["spec"],
                "properties": {"spec": fleet_schema.SPEC, "status": fleet_status.STATUS},
            }
        },
        # No scale sub-resource: its path cannot point into the list scaleTargetRef.
        "subresources": {"status": {}},
        "additionalPrinterColumns": fleet_status.COLUMNS,
    }
    return {
        "group": contract.GROUP,
        "scope": "Namespaced",
        "names": {
            "kind": contract.KIND,
            "listKind": f"{contract.KIND}List",
            "plural": contract.PLURAL,
            "singular": contract.PLURAL,
            "shortNames": ["cel", "capp"],
        },
        "versions": [version],
    }


def celery_spec(settings: Settings, pool: Pool) -> dict[str, Any]:
    """`spec` of the pool's `Celery` object."""
    target = {
        "kind": "worker",
        "name": contract.worker_deployment_name(pool.name),
        "minReplicas": pool.min_replicas,
        "maxReplicas": pool.max_replicas,
        "metrics": [
            {"name": "message_queue", "target": {"type": "length", "averageValue": pool.average_value}}
        ],
        **({"behavior": dict(pool.behavior)} if pool.behavior else {}),
        "paused": pool.paused,
        "mode": pool.mode,
        "drainSeconds": drain_seconds(pool),
    }
    flower = {"replicas": settings.flower_replicas, "resources": dict(settings.flower_resources)}
    return {
        "common": {"appName": pool.name, "celeryApp": pool.celery_app, "image": pool.image},
        "workerSpec": {
            "numOfWorkers": pool.min_replicas,
            "queues": ",".join(pool.queues),
            "logLevel": pool.log_level,
            "concurrency": pool.concurrency,
            "maxTasksPerChild": pool.max_tasks_per_child,
            "resources": dict(pool.resources),
        },
        **({"flowerSpec": flower} if settings.flower else {}),
        "scaleTargetRef": [target],
    }


def digest(value: object) -> str:
    """A short text that changes when the value does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _definition(name: str, parent: pulumi.Resource) -> pulumi.Resource:
    metadata: Any = {
        "name": contract.CRD_NAME,
        "annotations": {
            # A manager of its own for each patch would make two stacks' schemas conflict.
            FIELD_MANAGER_ANNOTATION: FIELD_MANAGER,
            fleet_schema.REVISION_ANNOTATION: str(fleet_schema.REVISION),
        },
    }
    spec: Any = definition()
    return apiextensions.v1.CustomResourceDefinitionPatch(
        f"{name}-crd",
        metadata=metadata,
        spec=spec,
        opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=True),
    )
