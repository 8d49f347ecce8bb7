"""What the scaler keeps of the cluster's objects: small extracts, and what a failure to read or write means.

It owns these shapes and nothing that talks. A thousand `Celery` objects fit in a few megabytes because
only what is here is kept of them.

`scaler.cluster.wire` makes the extracts, `scaler.loop` works with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from scaler.contract import SCALER_NAME, Policy

VICTIM_COST: Final = -1000
"""`controller.kubernetes.io/pod-deletion-cost` of a drained pod; a pod that has none counts as 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryObject:
    name: str
    uid: str
    generation: int
    policy: Policy | None
    invalid: str | None
    """What is wrong with the spec, where it gives no policy."""
    stored_status: Mapping[str, Any]
    """What a scaler starts from; one that leads goes by what it wrote itself."""
    settings: str | None = None
    """`scaler.contract.SETTINGS_ANNOTATION`; None on an object that Pulumi did not make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasOwner:
    """A manager that the API server's managedFields name for `spec.replicas`."""

    manager: str
    at: float | None
    """When it last changed a field of its own; the API server keeps no time for writes of `/scale`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What the worker container of a Deployment runs; None where its command does not say it."""

    image: str
    queues: tuple[str, ...] | None
    concurrency: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    name: str
    uid: str
    resource_version: int
    spec_replicas: int
    replicas: int | None
    """Pods that exist, terminating ones not counted; None until the Deployment controller has looked."""
    foreign_owner: ReplicasOwner | None
    """Who else set the replicas last."""
    ready_replicas: int | None = None
    """Of `replicas`, those that are ready."""
    rolling_out: bool = False
    """Its controller has not looked at its newest generation, or not replaced all pods by it."""
    runs: Runs | None = None
    """Of its first container; those that others inject stand behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a Deployment, ended ones left out."""

    name: str
    uid: str
    deployment: str
    replica_set: str
    created_at: float
    running_since: float | None
    """When its containers were started last; None where they do not run."""
    assigned: bool
    """It has a node. A ReplicaSet removes those without one first."""
    ready: bool
    terminating: bool
    deletion_cost: int

    @property
    def marked(self) -> bool:
        """Whether its ReplicaSet takes it before all that carry no such mark."""
        return self.deletion_cost <= VICTIM_COST


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The namespace as the watches have it."""

    celeries: Mapping[str, CeleryObject]
    deployments: Mapping[str, Deployment]
    autoscalers: Mapping[str, str]
    """Deployment to the HorizontalPodAutoscaler that targets it."""
    pods: Mapping[str, Sequence[Pod]] = field(default_factory=dict)
    """Deployment to the pods of its ReplicaSets, those with the pools' label only."""
    failure: ClusterFailure | None = None
    """Why some of it may be out of date."""


class Kind(StrEnum):
    """What a failed request means."""

    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    INVALID = "invalid"
    UNREACHABLE = "unreachable"
    SLOW_DOWN = "slow_down"
    GONE = "gone"
    NOT_READ_YET = "not_read_yet"


class ClusterFailure(Exception):  # noqa: N818  # a fact about the cluster
    """A request that failed, with a plain sentence."""

    def __init__(self, kind: Kind, sentence: str, retry_after_seconds: float = 0) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence
        self.retry_after_seconds = retry_after_seconds


def foreign_owner_among(owners: list[ReplicasOwner], created_at: float) -> ReplicasOwner | None:
    """Who set the replicas last, where it was neither the scaler nor whoever made the Deployment.

    Pulumi sets them at creation only, and its later changes of other fields move its entry's time.
    """
    foreign = [
        owner
        for owner in owners
        if owner.manager != SCALER_NAME
        and not owner.manager.startswith("pulumi")
        and (owner.at is None or owner.at > created_at)
    ]
    return max(foreign, key=lambda owner: math.inf if owner.at is None else owner.at, default=None)
