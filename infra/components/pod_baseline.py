"""What every pod of the stack has in common: the restricted Pod Security Standard, limits, labels.

It owns the shape of a container, a pod template, a Deployment, a Service and a claim here, as plain
manifests in Kubernetes' own words, so that a template can be digested and compared. What a pod runs, and
why, is its component's matter.

Pulumi does not wait for Deployments and Services to become ready: its wait reports an image that cannot
be pulled after ten minutes, `infra.lifecycle` within a minute and with the node's own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi_kubernetes import apps, core

from scaler import contract

Manifest = dict[str, Any]

PART_OF: Final = "celery-fleet"
USER: Final = 65532
"""A number, since the kubelet cannot check a name against runAsNonRoot; the one of this project's images.
A user's image runs with it, too, whatever its USER says."""

HOME: Final = {"name": "HOME", "value": "/tmp"}  # noqa: S108  # in the container
RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

STARTED: Final = {"pulumi.com/waitFor": "jsonpath={.metadata.uid}"}
"""True as soon as the object is there. `pulumi.com/skipAwait` would do the same on the way up, but also
end the wait for its removal (pulumi-kubernetes, metadata/overrides.go, DeletedCondition): the broker would
go while workers still finish their tasks."""


READ_ONLY: Final = {"secret", "configMap", "projected"}
"""Volumes that nothing is written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose object it is: the labels, and what a selector picks by."""

    stack: str
    name: str
    component: str
    pool: str = ""

    @property
    def selector(self) -> dict[str, str]:
        pool = {contract.POOL_LABEL: self.pool} if self.pool else {}
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/instance": self.stack, **pool}

    @property
    def labels(self) -> dict[str, str]:
        return {
            **self.selector,
            "app.kubernetes.io/component": self.component,
            "app.kubernetes.io/part-of": PART_OF,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One container with what it needs; every pod here has exactly one, but for init containers."""

    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...] = ()
    resources: Mapping[str, Any]
    env: Iterable[Manifest] = ()
    command: list[str] | None = None
    """None leaves the image's own."""
    container: Mapping[str, Any] = field(default_factory=dict)
    """Ports, probes, envFrom: what only some containers have."""
    mounts: Mapping[str, Manifest] = field(default_factory=dict)
    """Path to volume source, beside the scratch folder /tmp that every container has."""
    service_account: str = ""
    mount_token: bool = False
    grace_period_seconds: int = 30
    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    user: int = USER
    labels: Mapping[str, str] = field(default_factory=dict)
    """Beside those of its identity, which win."""
    volumes: Iterable[Mapping[str, Any]] = ()
    """Whole volumes, beside those that `mounts` makes; `volume_mounts` names them."""
    volume_mounts: Iterable[Mapping[str, Any]] = ()
    init_containers: Iterable[Mapping[str, Any]] = ()
    """In Kubernetes' own shape; what they leave out is the pod's."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the pod's spec: where it runs."""


def template(pod: Pod, identity: Identity) -> Manifest:
    """The pod template of a Deployment."""
    mounts = {"/tmp": {"emptyDir": {"sizeLimit": "256Mi"}}, **pod.mounts}  # noqa: S108  # in the container
    names = {path: path.strip("/").replace("/", "-") for path in mounts}
    volume_mounts = [
        {"name": names[path], "mountPath": path, **({"readOnly": True} if READ_ONLY & set(source) else {})}
        for path, source in mounts.items()
    ]
    container = {
        "name": identity.name,
        "image": pod.image,
        "imagePullPolicy": pod.pull_policy,
        **({"command": pod.command} if pod.command else {}),
        # The user has no entry in the image's /etc/passwd, so its home would be /.
        "env": [*pod.env, HOME],
        "resources": pod.resources,
        "securityContext": RESTRICTED,
        "volumeMounts": [*volume_mounts, *pod.volume_mounts],
        **pod.container,
    }
    initial = [_init_container(given, pod) for given in pod.init_containers]
    spec = {
        **pod.spec,
        **({"initContainers": initial} if initial else {}),
        "containers": [container],
        "volumes": [*({"name": names[path], **source} for path, source in mounts.items()), *pod.volumes],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": pod.user,
            "runAsGroup": pod.user,
            "fsGroup": pod.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": pod.grace_period_seconds,
        "automountServiceAccountToken": pod.mount_token,
        # A Service named `redis` would otherwise become REDIS_PORT=tcp://... in every container.
        "enableServiceLinks": False,
        **({"serviceAccountName": pod.service_account} if pod.service_account else {}),
        **({"imagePullSecrets": [{"name": name} for name in pod.pull_secrets]} if pod.pull_secrets else {}),
    }
    annotations = {"annotations": dict(pod.annotations)} if pod.annotations else {}
    return {"metadata": {"labels": {**pod.labels, **identity.labels}, **annotations}, "spec": spec}


def _init_container(given: Mapping[str, Any], pod: Pod) -> Manifest:
    """One that runs to its end before the pod's own container, as it is, on the same footing."""
    return {
        "imagePullPolicy": pod.pull_policy,
        "resources": pod.resources,
        **given,
        "env": [*given.get("env", ()), HOME],
        "securityContext": {**RESTRICTED, **given.get("securityContext", {})},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *given.get("volumeMounts", ())],  # noqa: S108
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentArgs:
    name: str
    """The object's own: other processes look it up."""
    namespace: str
    identity: Identity
    template: Manifest
    replicas: int = 1
    recreate: bool = False
    """Stop the old pod before the new one starts."""
    rollout: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the Deployment's spec: how old pods give way to new ones."""


def deployment(resource_name: str, args: DeploymentArgs, opts: pulumi.ResourceOptions) -> apps.v1.Deployment:
    spec: Any = {
        "replicas": args.replicas,
        "revisionHistoryLimit": 3,
        **({"strategy": {"type": "Recreate"}} if args.recreate else {}),
        **args.rollout,
        "selector": {"matchLabels": args.identity.selector},
        "template": args.template,
    }
    return apps.v1.Deployment(resource_name, metadata=_metadata(args), spec=spec, opts=opts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceArgs:
    name: str
    namespace: str
    identity: Identity
    port: int
    target_port: int
    type: str = "ClusterIP"
    node_port: int = 0
    """0 lets the cluster pick one, where the type has any."""
    more_ports: Mapping[str, int] = field(default_factory=dict)
    """Name to port of those beside the main one."""


def service(resource_name: str, args: ServiceArgs, opts: pulumi.ResourceOptions) -> core.v1.Service:
    node_port = {"nodePort": args.node_port} if args.node_port else {}
    spec: Any = {
        "type": args.type,
        "selector": args.identity.selector,
        "ports": [
            {"name": "main", "port": args.port, "targetPort": args.target_port, **node_port},
            *({"name": name, "port": port, "targetPort": port} for name, port in args.more_ports.items()),
        ],
    }
    return core.v1.Service(resource_name, metadata=_metadata(args), spec=spec, opts=opts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimArgs:
    name: str
    namespace: str
    identity: Identity
    persistence: Mapping[str, Any]
    """The setting's `size` and `storageClass`."""


def claim(resource_name: str, args: ClaimArgs, opts: pulumi.ResourceOptions) -> core.v1.PersistentVolumeClaim:
    storage_class = args.persistence["storageClass"]
    spec: Any = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": args.persistence["size"]}},
        **({"storageClassName": storage_class} if storage_class else {}),
    }
    return core.v1.PersistentVolumeClaim(resource_name, metadata=_metadata(args), spec=spec, opts=opts)


def _metadata(args: DeploymentArgs | ServiceArgs | ClaimArgs) -> Any:
    return {
        "name": args.name,
        "namespace": args.namespace,
        "labels": args.identity.labels,
        "annotations": STARTED,
    }
