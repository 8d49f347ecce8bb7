"""The fields that the scaler reads of the API server's answers, and the extracts made of them.

It owns which fields those are: `msgspec` skips all others while it decodes, so that a list of a thousand
objects costs what is here. Nothing here talks, or fails on an object that an older schema let in.

The requests are in `scaler.cluster.client`, the extracts' shapes in `scaler.cluster.objects`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType, field

from scaler.cluster.command_line import runs_of
from scaler.cluster.lease import DURATION_SECONDS, LeaseRecord
from scaler.cluster.objects import CeleryObject, Deployment, Pod, ReplicasOwner, foreign_owner_among
from scaler.contract import SETTINGS_ANNOTATION, InvalidSpec, policy_of
from scaler.rfc3339 import seconds_of

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"


class Metadata(Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class CeleryMetadata(Metadata, rename="camel"):
    annotations: dict[str, str] = {}  # msgspec copies it


class Celery(Struct, rename="camel"):
    metadata: CeleryMetadata
    spec: Any = None
    status: Any = None


class _SpecFields(Struct, rename="camel"):
    replicas: Raw | UnsetType = field(name="f:replicas", default=UNSET)


class _Fields(Struct, rename="camel"):
    spec: _SpecFields = field(name="f:spec", default_factory=_SpecFields)


class _ManagedFields(Struct, rename="camel"):
    manager: str = ""
    time: str | None = None
    fields_v1: _Fields = field(default_factory=_Fields)


class _DeploymentMetadata(Metadata, rename="camel"):
    managed_fields: list[_ManagedFields] = []


class _Container(Struct):
    image: str = ""
    command: list[str] = []
    args: list[str] = []


class _TemplateSpec(Struct):
    containers: list[_Container] = []


class _Template(Struct):
    spec: _TemplateSpec = field(default_factory=_TemplateSpec)


class _DeploymentSpec(Struct, rename="camel"):
    replicas: int = 1
    template: _Template = field(default_factory=_Template)


class _DeploymentStatus(Struct, rename="camel"):
    observed_generation: int | None = None
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0


class DeploymentObject(Struct, rename="camel"):
    metadata: _DeploymentMetadata
    spec: _DeploymentSpec = field(default_factory=_DeploymentSpec)
    status: _DeploymentStatus = field(default_factory=_DeploymentStatus)


class _Owner(Struct, rename="camel"):
    kind: str = ""
    name: str = ""
    controller: bool = False


class _PodAnnotations(Struct):
    deletion_cost: str = field(name=DELETION_COST, default="")


class _PodLabels(Struct):
    template_hash: str = field(name="pod-template-hash", default="")


class _PodMetadata(Metadata, rename="camel"):
    owner_references: list[_Owner] = []
    annotations: _PodAnnotations = field(default_factory=_PodAnnotations)
    labels: _PodLabels = field(default_factory=_PodLabels)


class _PodSpec(Struct, rename="camel"):
    node_name: str = ""


class _Condition(Struct):
    type: str = ""
    status: str = ""


class _Running(Struct, rename="camel"):
    started_at: str | None = None


class _ContainerState(Struct):
    running: _Running | None = None


class _ContainerStatus(Struct):
    state: _ContainerState = field(default_factory=_ContainerState)


class _PodStatus(Struct, rename="camel"):
    phase: str = ""
    conditions: list[_Condition] = []
    container_statuses: list[_ContainerStatus] = []


class PodObject(Struct, rename="camel"):
    metadata: _PodMetadata
    spec: _PodSpec = field(default_factory=_PodSpec)
    status: _PodStatus = field(default_factory=_PodStatus)


class _ScaleTarget(Struct, rename="camel"):
    kind: str = ""
    name: str = ""


class _AutoscalerSpec(Struct, rename="camel"):
    scale_target_ref: _ScaleTarget = field(default_factory=_ScaleTarget)


class Autoscaler(Struct, rename="camel"):
    metadata: Metadata
    spec: _AutoscalerSpec = field(default_factory=_AutoscalerSpec)


class _ScaleSpec(Struct, rename="camel"):
    replicas: int = 0


class Scale(Struct, rename="camel"):
    metadata: Metadata
    spec: _ScaleSpec = field(default_factory=_ScaleSpec)


class _LeaseSpec(Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class LeaseObject(Struct, rename="camel"):
    metadata: Metadata
    spec: _LeaseSpec = field(default_factory=_LeaseSpec)


class Anything(Struct, rename="camel"):
    """An answer of which only the metadata is of interest."""

    metadata: Metadata


class Status(Struct):
    """An answer that is no object."""

    status: str = ""


_TARGET_KIND: Final = "Deployment"
_ENDED: Final = ("Succeeded", "Failed")


def celery_extract(found: Celery, earlier: CeleryObject | None) -> CeleryObject | None:
    """The extract, or None for an object that is being deleted."""
    metadata = found.metadata
    if metadata.deletion_timestamp is not None:
        return None
    policy, invalid = None, None
    if earlier is not None and (earlier.uid, earlier.generation) == (metadata.uid, metadata.generation):
        policy, invalid = earlier.policy, earlier.invalid
    else:
        try:
            policy = policy_of(found.spec if isinstance(found.spec, dict) else {})
        except InvalidSpec as error:
            invalid = str(error)
    return CeleryObject(
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        policy=policy,
        invalid=invalid,
        stored_status=found.status if isinstance(found.status, dict) else {},
        settings=metadata.annotations.get(SETTINGS_ANNOTATION),
    )


def deployment_extract(found: DeploymentObject, earlier: Deployment | None) -> Deployment | None:
    """The extract; `earlier` itself where the scaler's own write showed a newer version already."""
    metadata = found.metadata
    version = int(metadata.resource_version)
    if earlier is not None and earlier.uid == metadata.uid and earlier.resource_version > version:
        return earlier
    owners = [
        ReplicasOwner(manager=entry.manager, at=seconds_of(entry.time))
        for entry in metadata.managed_fields
        if entry.fields_v1.spec.replicas is not UNSET
    ]
    worker = next(iter(found.spec.template.spec.containers), None)
    return Deployment(
        name=metadata.name,
        uid=metadata.uid,
        resource_version=version,
        spec_replicas=found.spec.replicas,
        # Zero is left out of a Deployment's status, so only a status that was never written is unknown.
        replicas=found.status.replicas if found.status.observed_generation is not None else None,
        ready_replicas=found.status.ready_replicas if found.status.observed_generation is not None else None,
        foreign_owner=foreign_owner_among(owners, seconds_of(metadata.creation_timestamp) or 0),
        rolling_out=(found.status.observed_generation or 0) < metadata.generation
        or found.status.updated_replicas < found.status.replicas,
        runs=runs_of(worker.image, [*worker.command, *worker.args]) if worker else None,
    )


def pod_extract(found: PodObject, _earlier: Pod | None) -> Pod | None:
    """The extract, or None for a pod of no Deployment and for one that has ended.

    A ReplicaSet that a Deployment makes is named after it and the hash of its template.
    """
    metadata, status = found.metadata, found.status
    owner = next((owner for owner in metadata.owner_references if owner.controller), _Owner())
    suffix = f"-{metadata.labels.template_hash}"
    if owner.kind != "ReplicaSet" or not owner.name.endswith(suffix) or status.phase in _ENDED:
        return None
    starts = [container.state.running for container in status.container_statuses]
    times = [seconds_of(start.started_at) if start else None for start in starts]
    known = [at for at in times if at is not None]
    return Pod(
        name=metadata.name,
        uid=metadata.uid,
        deployment=owner.name.removesuffix(suffix),
        replica_set=owner.name,
        created_at=seconds_of(metadata.creation_timestamp) or 0,
        running_since=max(known) if known and len(known) == len(times) else None,
        assigned=bool(found.spec.node_name),
        ready=any(each.type == "Ready" and each.status == "True" for each in status.conditions),
        terminating=metadata.deletion_timestamp is not None,
        deletion_cost=_cost(metadata.annotations.deletion_cost),
    )


def _cost(text: str) -> int:
    # As the ReplicaSet controller has it: what is no number counts as 0.
    return int(text) if re.fullmatch(r"0|-?[1-9][0-9]{0,9}", text) else 0


def autoscaler_extract(found: Autoscaler, _earlier: tuple[str, str] | None) -> tuple[str, str] | None:
    """The Deployment that it scales and its own name, or None where it scales something else."""
    target = found.spec.scale_target_ref
    return (target.name, found.metadata.name) if target.kind == _TARGET_KIND else None


def lease_record(found: LeaseObject) -> LeaseRecord:
    return LeaseRecord(
        holder=found.spec.holder_identity or "",
        version=found.metadata.resource_version,
        duration_seconds=found.spec.lease_duration_seconds or DURATION_SECONDS,
        transitions=found.spec.lease_transitions or 0,
    )
