"""Flower: Celery's own page about workers and tasks, behind a password.

It owns the Deployment and Service `flower` and the Secret `flower-auth` (key `basic-auth`, as
`user:password`), unless `flowerAuthSecret` names one of yours.

It deliberately is no part of scaling: the scaler never asks it, and a stack without it works the same.
Flower keeps its history in memory: a new pod starts with an empty page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes import core

from infra.components import pod_baseline
from infra.components.broker import Broker, environment, secret_variable
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.password import GeneratedPassword
from infra.settings import Settings

SERVICE: Final = "flower"
PORT: Final = 5555
IMAGE: Final = "celery-fleet-flower"
AUTH_SECRET: Final = "flower-auth"  # noqa: S105  # a name
AUTH_KEY: Final = "basic-auth"
USER: Final = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerArgs:
    settings: Settings
    broker: Broker


class Flower(pulumi.ComponentResource):
    auth_secret_name: str
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: FlowerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Flower", name, None, opts)
        settings = args.settings
        child = pulumi.ResourceOptions(parent=self)
        identity = Identity(stack=settings.stack, name="flower", component="monitor")
        needed: list[pulumi.Resource] = []
        self.auth_secret_name = settings.flower_auth_secret or AUTH_SECRET
        if not settings.flower_auth_secret:
            metadata: Any = {
                "name": AUTH_SECRET,
                "namespace": settings.namespace,
                "labels": identity.labels,
            }
            password = GeneratedPassword(f"{name}-password", opts=child).result
            login = pulumi.Output.concat(f"{USER}:", password)
            needed.append(
                core.v1.Secret(f"{name}-secret", metadata=metadata, string_data={AUTH_KEY: login}, opts=child)
            )
        self.deployment_name = SERVICE
        self.template = pod_baseline.template(_pod(settings, args.broker, self.auth_secret_name), identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=SERVICE,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                replicas=settings.flower_replicas,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=needed),
        )
        pod_baseline.service(
            f"{name}-service",
            pod_baseline.ServiceArgs(
                name=SERVICE,
                namespace=settings.namespace,
                identity=identity,
                port=PORT,
                target_port=PORT,
                type=settings.flower_service_type,
                node_port=settings.flower_node_port,
            ),
            child,
        )
        self.register_outputs({"auth_secret_name": self.auth_secret_name})


def _pod(settings: Settings, broker: Broker, auth_secret: str) -> Pod:
    return Pod(
        image=f"{settings.image_registry}/{IMAGE}:{settings.image_tag}",
        pull_policy=settings.defaults.image_pull_policy,
        pull_secrets=settings.defaults.image_pull_secrets,
        resources=settings.flower_resources,
        env=[
            *environment(broker.secret_name),
            secret_variable("FLOWER_BASIC_AUTH", auth_secret, AUTH_KEY),
            {"name": "FLOWER_READ_ONLY", "value": str(settings.flower_read_only).lower()},
        ],
        container={
            "ports": [{"containerPort": PORT}],
            # Flower answers /healthcheck without a password.
            "readinessProbe": {"httpGet": {"path": "/healthcheck", "port": PORT}, "periodSeconds": 5},
            "livenessProbe": {
                "httpGet": {"path": "/healthcheck", "port": PORT},
                "periodSeconds": 20,
                "timeoutSeconds": 5,
                "failureThreshold": 6,
            },
        },
        annotations=broker.pod_annotations,
    )
