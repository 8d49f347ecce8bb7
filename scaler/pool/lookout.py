"""What each pool's tick sees, out of the reads that all pools share.

It owns what pools have to know of one another: who else scales the same Deployment, and whose workers take
messages of the same queues. It reads nothing itself; `scaler.loop` hands it what was read.
"""

from __future__ import annotations

from collections.abc import Mapping

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import Kind, Snapshot
from scaler.pool.pool import Pool
from scaler.pool.sight import Sight
from scaler.workers.answers import Heard


def sights_of(
    pools: Mapping[str, Pool],
    *,
    snapshot: Snapshot,
    backlog: Backlog | BrokerFailure,
    heard: Heard,
    at: float,
    read_at: float,
    visibility_seconds: float,
) -> dict[str, Sight]:
    """By pool, before its workers are asked."""
    targets, servers = _pools_by_target(pools), _pools_by_queue(pools)
    failure = snapshot.failure
    sights = {}
    for name, pool in pools.items():
        deployment = snapshot.deployments.get(pool.policy.deployment) if pool.policy else None
        sights[name] = Sight(
            at=at,
            read_at=read_at,
            deployment=deployment,
            other_scaler=_other_scaler(pool, snapshot, targets),
            backlog=backlog,
            trouble=failure if failure and failure.kind is Kind.FORBIDDEN else pool.trouble,
            pods=snapshot.pods.get(deployment.name, ()) if deployment else (),
            keepers_since=_keepers_since(pool, snapshot, servers),
            visibility_seconds=visibility_seconds,
            heard=heard,
        )
    return sights


def _pools_by_target(pools: Mapping[str, Pool]) -> dict[str, list[str]]:
    targets: dict[str, list[str]] = {}
    for pool in pools.values():
        if pool.policy is not None:
            targets.setdefault(pool.policy.deployment, []).append(pool.name)
    return targets


def _pools_by_queue(pools: Mapping[str, Pool]) -> dict[str, set[str]]:
    """Queue to the Deployments whose workers take its messages."""
    servers: dict[str, set[str]] = {}
    for pool in pools.values():
        if pool.policy is not None:
            for queue in pool.policy.queues:
                servers.setdefault(queue, set()).add(pool.policy.deployment)
    return servers


def _other_scaler(pool: Pool, snapshot: Snapshot, targets: Mapping[str, list[str]]) -> str | None:
    if pool.policy is None:
        return None
    target = pool.policy.deployment
    if target in snapshot.autoscalers:
        return f"HorizontalPodAutoscaler/{snapshot.autoscalers[target]}"
    return next((f"Celery/{name}" for name in targets[target] if name != pool.name), None)


def _keepers_since(pool: Pool, snapshot: Snapshot, servers: Mapping[str, set[str]]) -> float | None:
    """Since when the oldest worker runs that takes messages of the pool's queues."""
    queues = pool.policy.queues if pool.policy else ()
    deployments = {deployment for queue in queues for deployment in servers[queue]}
    return min(
        (
            pod.running_since
            for deployment in deployments
            for pod in snapshot.pods.get(deployment, ())
            if pod.running_since is not None
        ),
        default=None,
    )
