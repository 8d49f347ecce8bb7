"""The scaler of the stack, and the rights it has: no more than the calls it makes, in one namespace.

It owns the Deployment, Service, ServiceAccount, Role and RoleBinding `celery-fleet-scaler`. One pod, and
`Recreate`: two scalers would undo each other's writes (a Lease guards against what Kubernetes cannot
promise). It deliberately has no readiness probe that looks at the broker: what the broker does shows in
the `Celery` objects' conditions, and a pod taken out of its Service would hide the metrics that tell why.

What the scaler does is in `scaler/`; the environment it gets is `scaler.contract.Env`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes import core, rbac

from infra.components import external, pod_baseline
from infra.components.broker import Broker
from infra.components.credentials import MANAGEMENT_URL, URL
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.settings import Settings
from infra.settings.delivery import transport_options
from scaler import contract

IMAGE: Final = "celery-fleet-scaler"
BROKER_FOLDER: Final = "/etc/celery-broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerArgs:
    settings: Settings
    broker: Broker


class Autoscaler(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: AutoscalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Autoscaler", name, None, opts)
        settings = args.settings
        child = pulumi.ResourceOptions(parent=self)
        identity = Identity(stack=settings.stack, name=contract.SCALER_NAME, component="autoscaler")
        self.deployment_name = contract.SCALER_NAME
        self.template = pod_baseline.template(_pod(settings, args.broker), identity)
        rights = _rights(name, settings, identity, child)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=contract.SCALER_NAME,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                recreate=True,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=rights),
        )
        pod_baseline.service(
            f"{name}-service",
            pod_baseline.ServiceArgs(
                name=contract.SCALER_NAME,
                namespace=settings.namespace,
                identity=identity,
                port=contract.HTTP_PORT,
                target_port=contract.HTTP_PORT,
                type=settings.scaler_service_type,
                node_port=settings.scaler_node_port,
            ),
            child,
        )
        self.register_outputs({"deployment_name": self.deployment_name})


def _rights(
    name: str, settings: Settings, identity: Identity, opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    metadata: Any = {
        "name": contract.SCALER_NAME,
        "namespace": settings.namespace,
        "labels": identity.labels,
    }
    account_metadata: Any = {**metadata, "annotations": pod_baseline.STARTED}
    account = core.v1.ServiceAccount(
        f"{name}-service-account",
        metadata=account_metadata,
        automount_service_account_token=False,
        opts=opts,
    )
    rules: Any = [{key: list(words) for key, words in rule.items()} for rule in contract.RBAC_RULES]
    role = rbac.v1.Role(f"{name}-role", metadata=metadata, rules=rules, opts=opts)
    role_ref: Any = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": contract.SCALER_NAME,
    }
    subjects: Any = [
        {"kind": "ServiceAccount", "name": contract.SCALER_NAME, "namespace": settings.namespace}
    ]
    binding = rbac.v1.RoleBinding(
        f"{name}-role-binding",
        metadata=metadata,
        role_ref=role_ref,
        subjects=subjects,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[role, account])),
    )
    return [account, role, binding]


def _pod(settings: Settings, broker: Broker) -> Pod:
    management = {contract.Env.BROKER_MANAGEMENT_URL_FILE: f"{BROKER_FOLDER}/{MANAGEMENT_URL}"}
    texts = {
        contract.Env.BROKER_URL_FILE: f"{BROKER_FOLDER}/{URL}",
        **(management if broker.has_management else {}),
        **({contract.Env.BROKER_CA_FILE: external.CA_FILE} if settings.broker_ca else {}),
        contract.Env.BROKER_TRANSPORT_OPTIONS: json.dumps(transport_options(settings), sort_keys=True),
        contract.Env.POLL_SECONDS: str(settings.poll_seconds),
        contract.Env.CONTROL_EXCHANGE: settings.control_exchange,
        contract.Env.EVENT_EXCHANGE: settings.event_exchange,
        contract.Env.STACK: settings.stack,
        contract.Env.STACK_URL: settings.stack_url,
        contract.Env.PAGE_PREFIX: settings.scaler_page_prefix,
        contract.Env.FLOWER_URL: settings.flower_url,
        contract.Env.GRAFANA_URL: settings.grafana_url,
    }
    fields = {
        contract.Env.NAMESPACE: "metadata.namespace",
        contract.Env.POD_NAME: "metadata.name",
    }
    return Pod(
        image=f"{settings.image_registry}/{IMAGE}:{settings.image_tag}",
        pull_policy=settings.defaults.image_pull_policy,
        pull_secrets=settings.defaults.image_pull_secrets,
        resources=settings.scaler_resources,
        env=[
            *({"name": name.value, "value": text} for name, text in texts.items() if text),
            *(
                {"name": name.value, "valueFrom": {"fieldRef": {"fieldPath": path}}}
                for name, path in fields.items()
            ),
        ],
        container={
            "ports": [{"containerPort": contract.HTTP_PORT}],
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": contract.HTTP_PORT},
                "periodSeconds": 10,
                "timeoutSeconds": 5,
            },
        },
        # Files, not variables: the scaler reads them again and sees a changed password, so no annotation
        # starts its pod anew for one.
        mounts={BROKER_FOLDER: broker.scaler_volume, **external.mounts(settings)},
        service_account=contract.SCALER_NAME,
        mount_token=True,
    )
