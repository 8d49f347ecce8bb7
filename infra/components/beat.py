"""Celery beat: the one process that sends the app's scheduled tasks.

It owns the Deployment `celery-beat` and, where the stack keeps its schedule, a PersistentVolumeClaim. One
pod, and `Recreate`: two beats would send everything twice. It runs the image and the app of one of the
pools, with that pool's environment, volumes and place, and counts as a producer of the stack:
`pulumi destroy` stops it while the queues empty.

It deliberately has no liveness probe. Beat answers nobody, and the one thing to look at, its schedule file,
is written by Celery's default scheduler only, every few minutes: an app with another one would be restarted
for ever. A beat whose process ends is started anew by the kubelet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from infra.components import pod_baseline
from infra.components.connections import Connections
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.components.workers import place
from infra.settings import Settings
from infra.settings.names import object_name
from infra.settings.pool import Pool

NAME: Final = "celery-beat"
FOLDER: Final = "/var/lib/celery-beat"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatArgs:
    settings: Settings
    connections: Connections


class Beat(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: BeatArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Beat", name, None, opts)
        settings = args.settings
        identity = Identity(stack=settings.stack, name=NAME, component="beat")
        kept = settings.beat_schedule_persistence
        needed: list[pulumi.Resource] = []
        if kept["enabled"]:
            claim = pod_baseline.ClaimArgs(
                name=NAME, namespace=settings.namespace, identity=identity, persistence=kept
            )
            needed.append(pod_baseline.claim(f"{name}-claim", claim, pulumi.ResourceOptions(parent=self)))
        self.deployment_name = NAME
        self.template = pod_baseline.template(_pod(settings, pool_of(settings), args.connections), identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=NAME,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                recreate=True,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=needed),
        )
        self.register_outputs({"deployment_name": self.deployment_name})


def pool_of(settings: Settings) -> Pool:
    """The pool whose app beat runs."""
    if not settings.beat_pool:
        return settings.defaults
    return next(pool for pool in settings.pools if pool.name == object_name(settings.beat_pool))


def command(pool: Pool, connections: Connections) -> list[str]:
    """In exec form, as the workers': a beat that is told to stop writes its schedule down first."""
    configuration = connections.configuration
    return [
        *("celery", "-A", pool.celery_app, "beat", "-l", pool.log_level),
        # No pid file: its folder is the container's own, and a stale one keeps beat from starting.
        *("--pidfile=", "-s", f"{FOLDER}/schedule"),
        *(["--", *configuration] if configuration else []),
    ]


def _pod(settings: Settings, pool: Pool, connections: Connections) -> Pod:
    kept = settings.beat_schedule_persistence["enabled"]
    schedule = {"persistentVolumeClaim": {"claimName": NAME}} if kept else {"emptyDir": {"sizeLimit": "64Mi"}}
    return Pod(
        image=pool.image,
        pull_policy=pool.image_pull_policy,
        pull_secrets=pool.image_pull_secrets,
        resources=settings.beat_resources,
        command=command(pool, connections),
        env=[
            *connections.environment,
            *({"name": name, "value": value} for name, value in pool.env.items()),
        ],
        container={"envFrom": list(pool.env_from)} if pool.env_from else {},
        mounts={FOLDER: schedule, **connections.mounts},
        volumes=pool.volumes,
        volume_mounts=pool.volume_mounts,
        service_account=pool.service_account,
        annotations=connections.annotations,
        spec=place(pool),
    )
