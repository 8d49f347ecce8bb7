"""Every setting of a stack: its type, its default, and what it means. Data, with no behaviour.

`Settings` holds the keys of the whole stack, together with `infra.settings.doors`; those that `pools` may
override by name are in `infra.settings.pool`. The descriptions there are the only ones:
`infra.settings.docs` writes the `config` block of Pulumi.yaml and the table in README.md from them, and the
errors of `infra.settings.rules` quote them.

Reading values and checking them is not done here; start at `infra.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.settings.doors import Doors
from infra.settings.pool import DAY, Pool
from infra.settings.problem import Problem
from infra.settings.schema import container_resources, setting

SERVICE_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_NODE_PORT_MEANING = "Port on every node, from 30000 to 32767; 0 lets the cluster pick one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Doors):
    """What one stack is asked to be."""

    stack: str
    defaults: Pool
    """The flat keys; what runs beside the workers takes its pull policy and pull secrets from here."""
    pools: tuple[Pool, ...]
    warnings: tuple[Problem, ...] = ()
    """What works and is still unwise; `infra.settings.lint` finds it, `infra.program` says it."""

    namespace: str = setting(
        "string",
        "",
        "Namespace of the stack. Empty means `celery-fleet-<stack>`; two stacks cannot share one.",
    )
    create_namespace: bool = setting(
        "boolean",
        True,
        "Makes the namespace and removes it on destroy. Switch it off where somebody else owns it.",
    )
    context: str = setting(
        "string",
        "",
        "Context of the kubeconfig. Empty means the current one, which another terminal may change: name "
        "it for every stack that matters.",
        name="kubernetes:context",
    )
    kubeconfig: str = setting(
        "string",
        "",
        "Path of the kubeconfig file. Empty means `KUBECONFIG`, else `~/.kube/config`. Its contents are "
        "not accepted: they would be stored in the stack's state.",
        name="kubernetes:kubeconfig",
    )
    production: bool = setting(
        "boolean",
        False,
        "Says that no task may be lost or repeated here: what the preview finds of that kind is an error "
        "that stops it, not a warning.",
    )
    poll_seconds: int = setting(
        "integer",
        2,
        "Seconds between two looks at the queues. One look is a single round trip to Redis.",
        low=1,
        high=60,
        too_low="there is nothing between two looks",
        too_high="a flood waits that long for more workers",
    )
    image_registry: str = setting(
        "string",
        "localhost",
        "Registry and path of this project's own images (scaler, Flower, sample app), where `make images "
        "REGISTRY=... PUSH=1` put them. The default suits a local cluster that has them loaded.",
        too_low="they are looked for on Docker Hub, where they are not",
    )
    image_tag: str = setting(
        "string",
        "0.1.0",
        "Tag of these images. The default is the version of this checkout.",
        too_low="`latest` is meant, which moves",
    )
    redis_image: str = setting(
        "string", "redis:8.2", "Image of the broker: Redis or Valkey with `sh`.", too_low="there is no broker"
    )
    redis_password: str = setting(
        "string",
        "",
        "Password of the broker, set with `--secret`. Empty means that one is made at random, once. "
        "A new one restarts Redis and every pod that uses it.",
        secret=True,
    )
    existing_secret: str = setting(
        "string",
        "",
        "Name of a Secret, made by you, that holds the broker's `password` and `url`. Empty means that the "
        "stack makes `celery-broker`.",
    )
    redis_persistence: Mapping[str, Any] = setting(
        "object",
        {"enabled": True, "size": "8Gi", "storageClass": ""},
        "Whether Redis keeps its data on a PersistentVolumeClaim, the claim's size, and its storage class "
        "(empty: the cluster's default).",
        too_low="a restart of Redis loses every queued task",
    )
    redis_resources: Mapping[str, Any] = container_resources(
        "100m", "256Mi", "1", "1Gi", "1 GiB of memory holds about a million small messages."
    )
    visibility_timeout_seconds: int = setting(
        "integer",
        0,
        "Seconds after which a message that no worker acknowledged is delivered again: `visibility_timeout`, "
        "longer than the longest task and ETA. One for all pools, since the shortest among the clients of a "
        "Redis counts. 0 leaves the app's choice, kombu's own being 3600.",
        low=0,
        high=366 * DAY,
        too_low="tasks that still run, or wait for their time, are delivered again and run twice",
        too_high="tasks of a worker that was killed come back that late",
    )
    broker_transport_options: Mapping[str, Any] = setting(
        "object",
        {},
        "`broker_transport_options` for workers and scaler alike (`sep`, `priority_steps`, "
        "`global_keyprefix`, ...), in place of the app's own, as visibilityTimeoutSeconds is. Producers "
        "outside the stack need the same.",
    )
    control_exchange: str = setting(
        "string",
        "celery",
        "The app's `control_exchange`, through which the scaler tells workers to stop taking tasks before it "
        "removes them. Where it differs from the app's, no worker answers, and only idle ones are removed.",
    )
    event_exchange: str = setting(
        "string",
        "celeryev",
        "The app's `event_exchange`, through which the scaler hears the workers' heartbeats.",
    )
    flower: bool = setting("boolean", True, "Runs Flower, Celery's web page. Scaling does not need it.")
    flower_replicas: int = setting(
        "integer",
        1,
        "Flower pods. Each keeps its own history, so one is right.",
        low=0,
        high=10,
        too_high="pages differ from request to request",
    )
    flower_service_type: str = setting(
        "string", "ClusterIP", "How Flower is reached; it asks for a password.", choices=SERVICE_TYPES
    )
    flower_node_port: int = setting("integer", 0, _NODE_PORT_MEANING)
    flower_resources: Mapping[str, Any] = container_resources("50m", "128Mi", "500m", "256Mi")
    flower_auth_secret: str = setting(
        "string",
        "",
        "Name of a Secret, made by you, whose key `basic-auth` is `user:password`. Empty means that the "
        "stack makes `flower-auth` with a random password.",
    )
    scaler_resources: Mapping[str, Any] = container_resources(
        "50m", "96Mi", "500m", "192Mi", "The scaler takes about 60 MiB, more with hundreds of pools."
    )
    scaler_service_type: str = setting(
        "string",
        "ClusterIP",
        "How the scaler's page, /metrics and /healthz are reached; they ask for no password.",
        choices=SERVICE_TYPES,
    )
    scaler_node_port: int = setting("integer", 0, _NODE_PORT_MEANING)
    sample_app: bool = setting("boolean", False, "Runs the sample app, a page that floods the queue.")
    sample_app_node_port: int = setting(
        "integer", 0, "Port of the sample app on every node, from 30000 to 32767; 0 keeps it in the cluster."
    )
    on_destroy: str = setting(
        "string",
        "drain",
        "What `pulumi destroy` does about tasks: `drain` finishes them first, `refuse` fails while there "
        "are any, `discard` lets running ones finish and gives up the queued ones. Read when it runs: no "
        "`pulumi up` is needed in between.",
        choices=("drain", "refuse", "discard"),
    )
    drain_timeout_seconds: int = setting(
        "integer",
        3600,
        "Seconds that `pulumi destroy` waits for the queues to empty, with onDestroy `drain`. Then it fails "
        "with what is left of each pool, and nothing is removed.",
        low=1,
        high=7 * DAY,
        too_low="no queue is worked off in no time",
        too_high="a task that never ends holds the terminal that long",
    )
    ready_timeout_seconds: int = setting(
        "integer",
        60,
        "Seconds that `pulumi up` waits for the scaler to report every pool Ready, once the pods run.",
        low=5,
        high=3600,
        too_low="`pulumi up` fails although all is well",
        too_high="a wrong password is reported that late",
    )
    image_timeout_seconds: int = setting(
        "integer",
        300,
        "Seconds that `pulumi up` waits for nodes to pull the images. One that cannot be pulled at all is "
        "reported sooner.",
        low=5,
        high=3600,
        too_low="`pulumi up` fails on the first, cold pull",
        too_high="a slow registry is reported that late",
    )
