"""The sample app: a page with a button that floods the queue, for trying a stack out.

It owns the Deployment and Service `sample-app`. The tasks it publishes run in the stack's workers, so a
stack that runs it takes the same image for its workers. It is no part of a stack that serves people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from infra.components import pod_baseline
from infra.components.connections import Connections
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.settings import Settings

SERVICE: Final = "sample-app"
PORT: Final = 8000
IMAGE: Final = "celery-fleet-sample-app"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAppArgs:
    settings: Settings
    connections: Connections


class SampleApp(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: SampleAppArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:SampleApp", name, None, opts)
        settings = args.settings
        child = pulumi.ResourceOptions(parent=self)
        identity = Identity(stack=settings.stack, name="sample-app", component="sample")
        self.deployment_name = SERVICE
        self.template = pod_baseline.template(_pod(settings, args.connections), identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=SERVICE, namespace=settings.namespace, identity=identity, template=self.template
            ),
            child,
        )
        pod_baseline.service(
            f"{name}-service",
            pod_baseline.ServiceArgs(
                name=SERVICE,
                namespace=settings.namespace,
                identity=identity,
                port=PORT,
                target_port=PORT,
                type="NodePort" if settings.sample_app_node_port else "ClusterIP",
                node_port=settings.sample_app_node_port,
            ),
            child,
        )
        self.register_outputs({})


def _pod(settings: Settings, connections: Connections) -> Pod:
    return Pod(
        image=f"{settings.image_registry}/{IMAGE}:{settings.image_tag}",
        pull_policy=settings.defaults.image_pull_policy,
        pull_secrets=settings.defaults.image_pull_secrets,
        resources={
            "requests": {"cpu": "50m", "memory": "96Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        env=[*connections.environment, *connections.of_own_images],
        container={
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 5},
        },
        mounts=connections.mounts,
        annotations=connections.annotations,
    )
