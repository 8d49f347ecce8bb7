"""The namespace as the loop sees it: a snapshot kept by four watches, and every write the scaler makes.

It owns what is asked of the Kubernetes API, which is `scaler.contract.RBAC_RULES` and no more, and the form
of each write. It decides nothing: the loop says what to write, `scaler.cluster.lease` when to renew.

How a request is made and what its failure means is in `scaler.cluster.client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from msgspec import Struct

from scaler.cluster import wire
from scaler.cluster.client import JSON_PATCH, MERGE_PATCH, Api, Resource
from scaler.cluster.lease import DURATION_SECONDS, LeaseRecord
from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment, Kind, Pod, Snapshot
from scaler.cluster.watch import Watched
from scaler.contract import API_VERSION, GROUP, KIND, PLURAL, POOL_LABEL, SCALER_NAME, VERSION
from scaler.rfc3339 import text_of

CELERIES: Final = Resource(GROUP, VERSION, PLURAL)
CELERY_STATUS: Final = Resource(GROUP, VERSION, PLURAL, "status")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
DEPLOYMENT_SCALE: Final = Resource("apps", "v1", "deployments", "scale")
POD_EVICTION: Final = Resource("", "v1", "pods", "eviction")
PODS: Final = Resource("", "v1", "pods", label=POOL_LABEL)
AUTOSCALERS: Final = Resource("autoscaling", "v2", "horizontalpodautoscalers")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
EVENTS: Final = Resource("events.k8s.io", "v1", "events")

NOTE_BYTES: Final = 1000
"""events.k8s.io/v1 takes notes below 1 kB."""

TEST_FAILED: Final = "the server rejected our request"
"""What a 422 says where an operation of a JSON patch fails; a schema's refusal names the field."""

_S = TypeVar("_S", bound=Struct)


class _KindSource:
    def __init__(self, api: Api, resource: Resource, answer: type[Struct]) -> None:
        self._api, self._resource, self._answer = api, resource, answer

    def pages(self) -> AsyncIterator[tuple[str, list[Any]]]:
        return self._api.pages(self._resource, self._answer)

    def events(self, version: str) -> AsyncIterator[tuple[str, Any]]:
        return self._api.events(self._resource, self._answer, version)


class Namespace:
    """The namespace as the loop sees it: a snapshot to read, and the writes."""

    def __init__(self, api: Api, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._celeries = Watched(_KindSource(api, CELERIES, wire.Celery), wire.celery_extract)
        self._deployments = Watched(
            _KindSource(api, DEPLOYMENTS, wire.DeploymentObject), wire.deployment_extract
        )
        self._autoscalers = Watched(_KindSource(api, AUTOSCALERS, wire.Autoscaler), wire.autoscaler_extract)
        self._pods = Watched(_KindSource(api, PODS, wire.PodObject), wire.pod_extract)

    async def follow(self) -> None:
        """Keep the snapshot up to date until cancelled."""
        await asyncio.gather(*(watched.follow() for watched in self._kinds))

    @property
    def _kinds(self) -> Sequence[Watched[Any]]:
        return (self._celeries, self._deployments, self._autoscalers, self._pods)

    def snapshot(self) -> Snapshot:
        """Raises ClusterFailure as long as a kind was never read, or its first watch is not answered."""
        failure = next((kind.failure for kind in self._kinds if kind.failure), None)
        read = all(kind.listed and (kind.opened or kind.failure) for kind in self._kinds)
        if not read:
            raise failure or ClusterFailure(Kind.NOT_READ_YET, "the namespace has not been read yet")
        pods: dict[str, list[Pod]] = {}
        for pod in self._pods.items.values():
            pods.setdefault(pod.deployment, []).append(pod)
        return Snapshot(
            celeries=self._celeries.items,
            deployments=self._deployments.items,
            autoscalers=dict(self._autoscalers.items.values()),
            pods=pods,
            failure=failure,
        )

    async def set_replicas(self, deployment: Deployment, replicas: int) -> None:
        """Write `/scale`, only if the replicas still are what was observed. Raises ClusterFailure."""
        patch: list[dict[str, object]] = [
            {"op": "test", "path": "/metadata/uid", "value": deployment.uid},
            _unchanged(deployment),
            {"op": "add", "path": "/spec/replicas", "value": replicas},
        ]
        scale = await self._patch(DEPLOYMENT_SCALE, deployment.name, patch, wire.Scale)
        self._deployments.items[deployment.name] = replace(
            deployment,
            resource_version=int(scale.metadata.resource_version),
            spec_replicas=scale.spec.replicas,
            foreign_owner=None,
        )

    async def set_deletion_cost(self, pod: Pod, cost: int | None) -> None:
        """Write the mark by which the ReplicaSet chooses, or take it away. Raises ClusterFailure.

        What it made of it is seen in the watch, not taken for granted here: `/scale` waits for that.
        """
        # A merge patch, as a pod may have no annotations yet; the uid in it is a precondition.
        annotations = {wire.DELETION_COST: None if cost is None else str(cost)}
        patch = {"metadata": {"uid": pod.uid, "annotations": annotations}}
        await self._api.call(
            "patch", PODS, wire.Anything, name=pod.name, body=patch, content_type=MERGE_PATCH
        )

    async def evict(self, pod: Pod) -> None:
        """Have this very pod stopped, with its whole grace period, if the budget allows.

        Raises ClusterFailure.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": self._namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        await self._api.call("create", POD_EVICTION, wire.Status, name=pod.name, body=body)

    async def write_status(self, celery: CeleryObject, status: Mapping[str, object]) -> None:
        """Store the whole status of this very object: one of the same name made since conflicts.

        A JSON patch because it can test the uid: a merge patch of a custom resource's `/status` takes any
        (seen on 1.36). Nobody else writes it, so the whole can be replaced.
        """
        patch: list[dict[str, object]] = [
            {"op": "test", "path": "/metadata/uid", "value": celery.uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        await self._patch(CELERY_STATUS, celery.name, patch, wire.Anything)

    async def _patch(self, resource: Resource, name: str, patch: object, answer: type[_S]) -> _S:
        try:
            return await self._api.call(
                "patch", resource, answer, name=name, body=patch, content_type=JSON_PATCH
            )
        except ClusterFailure as failure:
            if failure.kind is Kind.INVALID and TEST_FAILED in failure.sentence:
                sentence = f"{name} changed while the scaler decided: {failure.sentence}"
                raise ClusterFailure(Kind.CONFLICT, sentence) from failure
            raise

    async def create_event(
        self, celery: CeleryObject, *, warning: bool, reason: str, action: str, note: str, at: float
    ) -> None:
        regarding = {"apiVersion": API_VERSION, "kind": KIND, "namespace": self._namespace}
        body = {
            "metadata": {"name": f"{celery.name}.{int(at * 1e6):x}", "namespace": self._namespace},
            "eventTime": text_of(at),
            "reportingController": f"{GROUP}/{SCALER_NAME}",
            "reportingInstance": self._identity,
            "action": action,
            "reason": reason,
            "regarding": {**regarding, "name": celery.name, "uid": celery.uid},
            "note": note.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "type": "Warning" if warning else "Normal",
        }
        await self._api.call("create", EVENTS, wire.Anything, body=body)

    async def read_lease(self) -> LeaseRecord | None:
        try:
            found = await self._api.call("get", LEASES, wire.LeaseObject, name=SCALER_NAME)
        except ClusterFailure as failure:
            if failure.kind is Kind.NOT_FOUND:
                return None
            raise
        return wire.lease_record(found)

    async def create_lease(self, holder: str, at: float) -> LeaseRecord:
        body = _lease(holder, at, transitions=0, version=None)
        return wire.lease_record(await self._api.call("create", LEASES, wire.LeaseObject, body=body))

    async def write_lease(self, holder: str, seen: LeaseRecord, at: float) -> LeaseRecord:
        """Overwrite the lease that was seen, and no newer one."""
        transitions = seen.transitions + (seen.holder != holder != "")
        body = _lease(holder, at, transitions=transitions, version=seen.version)
        return wire.lease_record(
            await self._api.call("update", LEASES, wire.LeaseObject, name=SCALER_NAME, body=body)
        )


def _unchanged(deployment: Deployment) -> dict[str, object]:
    # The replicas rather than the version: a Deployment's status changes with each pod that starts, and
    # a flood must not wait for that. Scale leaves a 0 out, so there the version has to do.
    if deployment.spec_replicas:
        return {"op": "test", "path": "/spec/replicas", "value": deployment.spec_replicas}
    return {"op": "test", "path": "/metadata/resourceVersion", "value": str(deployment.resource_version)}


def _lease(holder: str, at: float, *, transitions: int, version: str | None) -> dict[str, object]:
    metadata = {"name": SCALER_NAME} | ({"resourceVersion": version} if version else {})
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": DURATION_SECONDS,
        "leaseTransitions": transitions,
        "renewTime": text_of(at),
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
