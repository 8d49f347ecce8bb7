"""Owns one look at the fleet: the Celery object's status beside its Deployment, in one request.

What the status leaves out is unknown and stays so; nothing is counted here, the scaler's own figures
are shown as any `kubectl get cel` would show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from demo.cluster import Cluster
from demo.screen import Sight


def look(cluster: Cluster, namespace: str, name: str) -> Sight:
    """The pool of the Celery object `name`. Raises DemoError where the API server does not answer."""
    items = cluster.get("celery,deployment", f"--namespace={namespace}")["items"]
    return sight_of(items, name)


def sight_of(items: Iterable[Mapping[str, Any]], name: str) -> Sight:
    by_kind = {(item["kind"], item["metadata"]["name"]): item for item in items}
    celery = by_kind["Celery", name]
    target = celery["spec"]["scaleTargetRef"][0].get("name") or f"{name}-celery-worker"
    workers = by_kind["Deployment", target]
    status = celery.get("status", {})
    decision = status.get("decision", {})
    known = [status[figure] for figure in ("queued", "unacked") if figure in status]
    ready: Mapping[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
    well = ready.get("status") == "True"
    return Sight(
        waiting=sum(known) if len(known) == 2 else None,
        replicas=workers["spec"]["replicas"],
        ready=workers.get("status", {}).get("readyReplicas", 0),
        reason=decision.get("reason", "") if well else ready.get("reason", ""),
        message=decision.get("message", "") if well else ready.get("message", ""),
    )
