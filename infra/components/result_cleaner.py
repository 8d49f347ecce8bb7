"""What removes expired results from a database, which Celery leaves to beat, and tells whether there is one.

It owns the Deployment `result-cleaner`: Celery's own clean-up, run in the workers' image, which has Celery,
the driver and the authorities that the database needs. It is ready while the database answers, so a
database that cannot be reached, or refuses the password, is what `pulumi up` says instead of what a task
finds out.

It deliberately is no CronJob, which would tell that hours later, and no worker's task, which would need a
queue that some worker takes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from infra.components import pod_baseline
from infra.components.connections import Connections
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.settings import Settings
from infra.settings.pool import DAY

NAME: Final = "result-cleaner"
AGAIN_SECONDS: Final = 10
LEAST_PAUSE, MOST_PAUSE = 60, 3600
CLEAN: Final = """\
import os, sys
from celery import Celery

app = Celery("result-cleaner")
app.conf.result_expires = int(os.environ["EXPIRE_SECONDS"])
try:
    app.backend.cleanup()
except Exception as error:
    said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    sys.exit(f"the result backend cannot be used: {said[0]}")
"""
"""Celery makes its tables where they are missing, with an index on what it looks for here."""
LOOP: Final = f"""\
echo 'no answer yet from the result backend' >/tmp/said
while :; do
    if python3 -c "$1" 2>/tmp/now; then
        : >/tmp/reached
        sleep "$PAUSE_SECONDS"
    else
        tail -n 1 /tmp/now | tee /tmp/said
        rm -f /tmp/reached
        sleep {AGAIN_SECONDS}
    fi
done
"""
REACHED: Final = "[ -f /tmp/reached ] || { cat /tmp/said; exit 1; }"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCleanerArgs:
    settings: Settings
    connections: Connections


class ResultCleaner(pulumi.ComponentResource):
    deployment_name: str
    template: Manifest

    def __init__(
        self, name: str, args: ResultCleanerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("celery:infra:ResultCleaner", name, None, opts)
        settings = args.settings
        identity = Identity(stack=settings.stack, name=NAME, component="result-cleaner")
        self.deployment_name = NAME
        self.template = pod_baseline.template(_pod(settings, args.connections), identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=NAME, namespace=settings.namespace, identity=identity, template=self.template
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _pod(settings: Settings, connections: Connections) -> Pod:
    pool = settings.pools[0]
    expire = settings.result_expire_seconds or DAY
    pause = min(max(expire // 24, LEAST_PAUSE), MOST_PAUSE)
    return Pod(
        image=pool.image,
        pull_policy=pool.image_pull_policy,
        pull_secrets=pool.image_pull_secrets,
        resources={
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "500m", "memory": "256Mi"},
        },
        command=["sh", "-c", LOOP, NAME, CLEAN],
        env=[
            *connections.results.environment,
            {"name": "EXPIRE_SECONDS", "value": str(expire)},
            {"name": "PAUSE_SECONDS", "value": str(pause)},
        ],
        container={
            "readinessProbe": {
                "exec": {"command": ["sh", "-c", REACHED]},
                "periodSeconds": 5,
                "failureThreshold": 1,
            }
        },
        mounts=connections.mounts,
        grace_period_seconds=5,
        annotations=connections.results.pod_annotations,
    )
