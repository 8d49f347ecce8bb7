"""The last resource of a stack: `up` returns once the fleet works, or fails with the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

__all__ = ["FleetLifecycle", "FleetLifecycleArgs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLifecycleArgs:
    """What the lifecycle waits for, and on which cluster."""

    namespace: pulumi.Input[str]
    context: pulumi.Input[str] = ""
    """Context of the kubeconfig; "" is its current one."""
    kubeconfig_path: pulumi.Input[str] = ""
    """"" follows kubectl's rules: KUBECONFIG, then ~/.kube/config."""
    stack: pulumi.Input[str]
    """Its name: `pulumi.get_stack()` answers "stack" in a provider's process."""
    deployments: pulumi.Input[list[str]]
    celeries: pulumi.Input[dict[str, str]] = field(default_factory=dict)
    """Name of each `Celery` object, and a digest of its spec."""
    config_digest: pulumi.Input[str] = ""
    """A digest of whatever else is worth another wait: images, the broker."""
    ready_timeout_seconds: pulumi.Input[int] = 60
    image_timeout_seconds: pulumi.Input[int] = 300
    on_destroy: pulumi.Input[str] = "drain"
    schema_revision: pulumi.Input[int] = 1


class LifecycleProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        keys = ("namespace", "context", "stack", "deployments", "celeries", "config_digest", "on_destroy")
        return DiffResult(changes=any(olds.get(key) != news.get(key) for key in keys), replaces=[])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(f"{props['namespace']}/fleet", {**props, "cluster_uid": ""})

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        return UpdateResult({**olds, **news})


class FleetLifecycle(Resource, module="celeryfleet", name="FleetLifecycle"):
    """Depends on every other resource of the stack: made last, removed first."""

    cluster_uid: pulumi.Output[str]
    """UID of the namespace kube-system: the cluster's identity, whatever its address or context."""
    ready_at: pulumi.Output[str]
    messages: pulumi.Output[list[str]]

    def __init__(
        self, name: str, args: FleetLifecycleArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        outputs = {"cluster_uid": None, "ready_at": None, "messages": None}
        super().__init__(LifecycleProvider(), name, {**asdict(args), **outputs}, opts)
