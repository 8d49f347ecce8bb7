"""The workers of one pool: a Deployment that runs the user's image as a Celery worker.

It owns the command line, the environment and the grace period. It sets `replicas` once and then leaves
them to the scaler (`ignore_changes`), or every `pulumi up` would undo the scaling.

It deliberately declares no readiness probe, since a ReplicaSet removes pods that are not ready before it
looks at their deletion cost, so a probe that flaps would choose the victims; no liveness probe, since
`celery inspect ping` starts a Python for each look and fails while a pool with one process is busy; and
no Service. Which workers leave, and when, is the scaler's matter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi

from infra import pod_baseline
from infra.broker import Broker, environment
from infra.pod_baseline import Identity, Manifest, Pod
from infra.settings import Settings
from infra.settings_fields import Pool
from scaler import contract


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersArgs:
    settings: Settings
    pool: Pool
    broker: Broker


class Workers(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: WorkersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Workers", name, None, opts)
        settings, pool = args.settings, args.pool
        identity = Identity(stack=settings.stack, name="celery-worker", component="worker", pool=pool.name)
        self.deployment_name = contract.worker_deployment_name(pool.name)
        self.template = pod_baseline.template(_pod(settings, pool, args.broker), identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=self.deployment_name,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                replicas=pool.min_replicas,
            ),
            pulumi.ResourceOptions(
                parent=self,
                ignore_changes=["spec.replicas"],
                # Pulumi's own limit of ten minutes would give a worker up that still has its grace period.
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{pool.grace_period_seconds + 120}s"),
            ),
        )
        self.register_outputs({"deployment_name": self.deployment_name})


def command(settings: Settings, pool: Pool) -> list[str]:
    """In exec form, so that Kubernetes' SIGTERM reaches Celery: a shell in between would swallow it.

    Gossip and mingle cost messages between all workers and serve nothing here. What follows `--` is
    Celery's own configuration; the app does not have to be touched.
    """
    arguments = [
        *("celery", "-A", pool.celery_app, "worker"),
        *("-n", "worker@$(POD_NAME)"),
        *("-Q", ",".join(pool.queues)),
        *("-c", str(pool.concurrency)),
        *("-l", pool.log_level),
        "--without-gossip",
        "--without-mingle",
    ]
    if pool.max_tasks_per_child:
        arguments += ["--max-tasks-per-child", str(pool.max_tasks_per_child)]
    if settings.broker_transport_options:
        options = json.dumps(settings.broker_transport_options, sort_keys=True)
        arguments += ["--", f"broker.transport_options=(dict){options}"]
    return arguments


def _pod(settings: Settings, pool: Pool, broker: Broker) -> Pod:
    return Pod(
        image=pool.image,
        pull_policy=pool.image_pull_policy,
        pull_secrets=pool.image_pull_secrets,
        resources=pool.resources,
        command=command(settings, pool),
        env=[
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *environment(broker.secret_name),
            *({"name": name, "value": value} for name, value in pool.env.items()),
        ],
        container={"envFrom": list(pool.env_from)} if pool.env_from else {},
        service_account=pool.service_account,
        grace_period_seconds=pool.grace_period_seconds,
        annotations=broker.pod_annotations,
    )
