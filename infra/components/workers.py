"""The workers of one pool: a Deployment that runs the user's image as a Celery worker, and its budget.

It owns the command line, the environment, the grace period, and what may stop workers at the same time: a
roll-out, and a node that is emptied. It sets `replicas` once and then leaves them to the scaler
(`ignore_changes`), or every `pulumi up` would undo the scaling.

It deliberately declares no readiness probe, since a ReplicaSet removes pods that are not ready before it
looks at their deletion cost, so a probe that flaps would choose the victims; no liveness probe, since
`celery inspect ping` starts a Python for each look and fails while a pool with one process is busy; and
no Service. Which workers leave, and when, is the scaler's matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes import policy

from infra.components import pod_baseline
from infra.components.connections import Connections
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.settings import Settings
from infra.settings.pool import Pool
from scaler import contract

SETTLE_SECONDS: Final = 10
"""A container without a probe counts as ready in the second it starts; one whose app cannot be imported
ends after 1 to 3 s. A roll-out that did not wait would replace every worker by one that crashes."""
PROGRESS_SECONDS: Final = 600
"""Kubernetes' own `progressDeadlineSeconds`; new workers may have to wait for the place of leaving ones."""
EVICTED_AT_ONCE: Final = "10%"
"""Rounded up, so always at least one: with a budget of none, a node could not be emptied at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersArgs:
    settings: Settings
    pool: Pool
    connections: Connections


class Workers(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: WorkersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Workers", name, None, opts)
        settings, pool = args.settings, args.pool
        identity = Identity(stack=settings.stack, name="celery-worker", component="worker", pool=pool.name)
        self.deployment_name = contract.worker_deployment_name(pool.name)
        self.template = pod_baseline.template(_pod(pool, args.connections, identity), identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=self.deployment_name,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                replicas=pool.min_replicas,
                rollout=_rollout(pool),
            ),
            pulumi.ResourceOptions(
                parent=self,
                ignore_changes=["spec.replicas"],
                # Pulumi's own limit of ten minutes would give a worker up that still has its grace period.
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{pool.grace_period_seconds + 120}s"),
            ),
        )
        metadata: Any = {
            "name": self.deployment_name,
            "namespace": settings.namespace,
            "labels": identity.labels,
        }
        policy.v1.PodDisruptionBudget(
            f"{name}-disruption-budget",
            metadata=metadata,
            spec=_budget(identity),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"deployment_name": self.deployment_name})


def command(pool: Pool, connections: Connections) -> list[str]:
    """In exec form, so that Kubernetes' SIGTERM reaches Celery: a shell in between would swallow it.

    Gossip and mingle cost messages between all workers and serve nothing here. What follows `--` is
    Celery's own configuration; the app does not have to be touched.
    """
    configuration = list(_configuration(pool, connections))
    return [
        *("celery", "-A", pool.celery_app, "worker"),
        *("-n", "worker@$(POD_NAME)"),
        *("-Q", ",".join(pool.queues)),
        *("-c", str(pool.concurrency)),
        *("-l", pool.log_level),
        "--without-gossip",
        "--without-mingle",
        *(["--max-tasks-per-child", str(pool.max_tasks_per_child)] if pool.max_tasks_per_child else []),
        # Not after `--`, where Celery 5.7 shows the value in its configuration and then uses the app's:
        # the option's default is read from the app before that (celery/bin/worker.py).
        *(["--prefetch-multiplier", str(pool.prefetch_multiplier)] if pool.prefetch_multiplier else []),
        *(["--disable-prefetch"] if pool.disable_prefetch else []),
        *pool.extra_args,
        *(["--", *configuration] if configuration else []),
    ]


def _configuration(pool: Pool, connections: Connections) -> Iterator[str]:
    if pool.accept_content:
        yield f"accept_content=(list){json.dumps(pool.accept_content)}"
    if pool.acks_late:
        yield "task.acks_late=1"
    if pool.soft_shutdown_timeout_seconds:
        yield f"worker.soft_shutdown_timeout={pool.soft_shutdown_timeout_seconds}"
    yield from connections.configuration


def place(pool: Pool) -> dict[str, Any]:
    """Where the pool's pods run, as keys of a pod's spec."""
    wanted = {
        "nodeSelector": dict(pool.node_selector),
        "tolerations": list(pool.tolerations),
        "affinity": dict(pool.affinity),
        "priorityClassName": pool.priority_class_name,
    }
    return {key: value for key, value in wanted.items() if value}


def _spread(pool: Pool, identity: Identity) -> dict[str, Any]:
    own = {"labelSelector": {"matchLabels": identity.selector}}
    constraints = [{**own, **given} for given in pool.topology_spread_constraints]
    return {"topologySpreadConstraints": constraints} if constraints else {}


def _pod(pool: Pool, connections: Connections, identity: Identity) -> Pod:
    # SIGTERM alone finishes every task and knows no soft shutdown, which only comes before a cold one; and
    # SIGTERM is all that Kubernetes sends.
    remap = [{"name": "REMAP_SIGTERM", "value": "SIGQUIT"}] if pool.soft_shutdown_timeout_seconds else []
    return Pod(
        image=pool.image,
        pull_policy=pool.image_pull_policy,
        pull_secrets=pool.image_pull_secrets,
        resources=pool.resources,
        command=command(pool, connections),
        env=[
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *connections.environment,
            *remap,
            *({"name": name, "value": value} for name, value in pool.env.items()),
        ],
        container={"envFrom": list(pool.env_from)} if pool.env_from else {},
        service_account=pool.service_account,
        grace_period_seconds=pool.grace_period_seconds,
        mounts=connections.mounts,
        annotations={**pool.pod_annotations, **connections.annotations},
        labels=pool.pod_labels,
        volumes=pool.volumes,
        volume_mounts=pool.volume_mounts,
        init_containers=pool.init_containers,
        # A container's first process ignores SIGTERM until it has a handler: a worker told to stop while it
        # boots would take tasks until it is killed. Here the pod's sandbox is the first process.
        spec={"shareProcessNamespace": True, **place(pool), **_spread(pool, identity)},
    )


def _rollout(pool: Pool) -> dict[str, Any]:
    """A new worker runs before an old one is told to stop, so the pool never has less capacity.

    Leaving workers finish their tasks meanwhile and are counted by nobody, so a pool may have more pods
    than maxReplicas for as long as its grace period. On a full cluster new ones wait that long for a place.
    """
    return {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "minReadySeconds": SETTLE_SECONDS,
        "progressDeadlineSeconds": PROGRESS_SECONDS + pool.grace_period_seconds,
    }


def _budget(identity: Identity) -> Any:
    """How many workers may be evicted at a time, by a node that is emptied or a cluster autoscaler.

    An evicted worker gets SIGTERM and its grace period, as in any other end, so the budget guards capacity
    and not tasks. It counts a leaving pod as gone and its replacement as there once it runs: the next
    eviction waits for a pod's start, not for the longest task. Scale-in does not ask it.
    """
    return {
        "maxUnavailable": EVICTED_AT_ONCE,
        # By default (IfHealthyBudget) workers that crash could not be evicted, and would hold their node.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": identity.selector},
    }
