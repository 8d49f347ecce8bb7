"""A server that the stack runs for itself: one pod, its volume, its Service, its password.

It owns what Redis, RabbitMQ and PostgreSQL have in common here: a Deployment of one pod that is never two
at a time, a PersistentVolumeClaim where its data is kept, a Service, a ConfigMap with its start script and
what it takes up while it runs, and the wait until it knows a new password (`infra.rotation`). What each is
started with is in the module of its name, and the scripts in `infra/components/start/`.

It deliberately runs one of each: no replicas, no cluster. A team that needs more than that has a managed one,
which `broker: external` is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pulumi
from pulumi_kubernetes import core

from infra.components import pod_baseline
from infra.components.credentials import FOLDER, volume_of
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.rotation import Rotation, RotationArgs
from infra.settings import Settings
from infra.settings.delivery import overlap_seconds
from infra.settings.quantity import number_of

SCRIPTS: Final = Path(__file__).parent / "start"
START: Final = "start.sh"
SHARE: Final = 0.6
"""Of the memory limit, what a server may fill with messages; the rest is for connections and for writing."""
BOOT_SECONDS: Final = 600
"""RabbitMQ listens once it has recovered its queues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What one server is: the same for every stack but for its settings."""

    name: str
    """Of the Deployment, the Service and the claim."""
    image: str
    port: int
    more_ports: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, Any]
    persistence: Mapping[str, Any]
    data: str
    """Folder that it keeps."""
    arguments: Iterable[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)
    """File to text: what may change without a restart."""
    ready: Manifest
    """Its readiness probe."""
    user: int = pod_baseline.USER
    former_name: str = ""
    """Its resources' names in the state of an older program, which are still known by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerArgs:
    settings: Settings
    program: Program
    component: str
    """`broker` or `result-backend`: what it is to the stack."""
    secret_name: str
    mark: pulumi.Output[str] | None
    """Of the password in that Secret; None where the Secret is the user's."""
    needed: list[pulumi.Resource]
    """What must be there before its pod."""


class Server(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest
    keeps_data: bool

    def __init__(self, args: ServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        settings, program = args.settings, args.program
        name = program.name
        super().__init__(f"celery:infra:{name.title()}", name, None, opts)
        identity = Identity(stack=settings.stack, name=name, component=args.component)
        needed = [*args.needed, _taken_up(settings, program, identity, self)]
        self.keeps_data = program.persistence["enabled"]
        if self.keeps_data:
            claim = pod_baseline.ClaimArgs(
                name=name,
                namespace=settings.namespace,
                identity=identity,
                persistence=program.persistence,
            )
            needed.append(pod_baseline.claim(f"{name}-claim", claim, self._child("claim", program)))
        self.deployment_name = name
        self.template = pod_baseline.template(_pod(args), identity)
        deployment = pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=name,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                recreate=True,  # two servers on one volume would corrupt it
            ),
            pulumi.ResourceOptions.merge(
                self._child("deployment", program), pulumi.ResourceOptions(depends_on=needed)
            ),
        )
        pod_baseline.service(
            f"{name}-service",
            pod_baseline.ServiceArgs(
                name=name,
                namespace=settings.namespace,
                identity=identity,
                port=program.port,
                target_port=program.port,
                more_ports=program.more_ports,
            ),
            self._child("service", program),
        )
        if args.mark is not None:
            Rotation(
                f"{name}-rotation",
                RotationArgs(
                    namespace=settings.namespace,
                    context=settings.context,
                    kubeconfig_path=settings.kubeconfig,
                    server=name,
                    mark=args.mark,
                ),
                pulumi.ResourceOptions(parent=self, depends_on=[deployment, *args.needed]),
            )
        self.register_outputs({})

    def _child(self, role: str, program: Program) -> pulumi.ResourceOptions:
        if not program.former_name:
            return pulumi.ResourceOptions(parent=self)
        former = pulumi.create_urn(program.former_name, f"celery:infra:{program.former_name.title()}")
        alias = pulumi.Alias(name=f"{program.former_name}-{role}", parent=former)
        return pulumi.ResourceOptions(parent=self, aliases=[alias])


def host(settings: Settings, name: str) -> str:
    """Also usable from other namespaces of the cluster."""
    return f"{name}.{settings.namespace}.svc"


def memory_share(resources: Mapping[str, Any], share: float) -> int:
    """Bytes of the memory limit."""
    return int(number_of(str(resources["limits"]["memory"])) * share)


def kept(persistence: Mapping[str, Any]) -> str:
    """Where the data lies, as far as a change of it leaves it behind."""
    return f"{persistence['storageClass'] or 'default'} class" if persistence["enabled"] else "none"


def _pod(args: ServerArgs) -> Pod:
    settings, program = args.settings, args.program
    persistent = program.persistence["enabled"]
    data = {"persistentVolumeClaim": {"claimName": program.name}} if persistent else {"emptyDir": {}}
    env = {"CREDENTIALS": FOLDER, **program.env}
    ports = [program.port, *program.more_ports.values()]
    listens = {"tcpSocket": {"port": program.port}}
    return Pod(
        image=program.image,
        pull_policy=settings.defaults.image_pull_policy,
        pull_secrets=settings.defaults.image_pull_secrets,
        resources=program.resources,
        command=["sh", f"{FOLDER}/{START}", *program.arguments],
        env=[{"name": key, "value": value} for key, value in env.items()],
        container={
            "ports": [{"containerPort": port} for port in ports],
            # A server that reads its files for a while is alive and not ready.
            "startupProbe": {**listens, "periodSeconds": 2, "failureThreshold": BOOT_SECONDS // 2},
            "livenessProbe": {**listens, "periodSeconds": 10, "failureThreshold": 6},
            "readinessProbe": program.ready,
        },
        mounts={program.data: data, FOLDER: volume_of(args.secret_name, program.name)},
        grace_period_seconds=60,
        user=program.user,
    )


def _taken_up(
    settings: Settings, program: Program, identity: Identity, parent: pulumi.Resource
) -> core.v1.ConfigMap:
    metadata: Any = {"name": program.name, "namespace": settings.namespace, "labels": identity.labels}
    return core.v1.ConfigMap(
        f"{program.name}-settings",
        metadata=metadata,
        data={
            START: (SCRIPTS / f"{program.name}.sh").read_text(),
            "overlap-seconds": str(overlap_seconds(settings)),
            **program.running,
        },
        opts=pulumi.ResourceOptions(parent=parent),
    )
