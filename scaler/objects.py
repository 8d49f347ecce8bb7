"""What the scaler keeps of the cluster's objects: small extracts, and what a failure to read or write means.

It owns these shapes and nothing that talks. A thousand `Celery` objects fit in a few megabytes because
only what is here is kept of them.

`scaler.cluster` makes the extracts, `scaler.loop` works with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scaler.contract import SCALER_NAME, Policy
from scaler.decision import ForeignWrite


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    name: str
    uid: str
    resource_version: int
    spec_replicas: int
    replicas: int | None
    """Pods that exist, terminating ones not counted; None until the Deployment controller has looked."""
    foreign_write: ForeignWrite | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The namespace as the watches have it."""

    celeries: Mapping[str, CeleryObject]
    deployments: Mapping[str, Deployment]
    autoscalers: Mapping[str, str]
    """Deployment to the HorizontalPodAutoscaler that targets it."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasOwner:
    """A manager that the API server's managedFields name for `spec.replicas`."""

    manager: str
    at: float


def foreign_write_among(
    owners: list[ReplicasOwner], *, created_at: float, earlier: Deployment | None, spec_replicas: int
) -> ForeignWrite | None:
    """The newest change of the replicas that neither the scaler nor the object's creation made.

    An entry's time also moves when its manager changes another field, so where `earlier` shows the same
    manager with the same replicas, its time is kept. Pulumi writes the replicas at creation only.
    """
    owners = [
        owner
        for owner in owners
        if owner.manager != SCALER_NAME and not owner.manager.startswith("pulumi") and owner.at > created_at
    ]
    if not owners:
        return None
    newest = max(owners, key=lambda owner: owner.at)
    if earlier is not None and earlier.spec_replicas == spec_replicas:
        known = earlier.foreign_write
        if known is not None and known.manager == newest.manager:
            return known
    return ForeignWrite(manager=newest.manager, at=newest.at)
