"""Every setting of a stack: its type, its default, and what it means. Data, with no behaviour.

`Pool` holds the keys that `pools` may override by name, `Settings` the ones of the whole stack. The
descriptions here are the only ones: `infra.settings_docs` writes the `config` block of Pulumi.yaml and
the table in README.md from them, and the errors of `infra.settings_rules` quote them.

Reading values and checking them is not done here; start at `infra.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.settings_schema import setting
from scaler import contract


def _resources(cpu: str, memory: str, most_cpu: str, most_memory: str, note: str = "") -> Any:
    return setting(
        "object",
        {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": most_cpu, "memory": most_memory}},
        f"Requests and limits, in the shape of a container's `resources`. {note}".strip(),
        too_low="one pod without a memory limit can take the whole node's memory",
    )


SERVICE_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_NODE_PORT_MEANING = "Port on every node, from 30000 to 32767; 0 lets the cluster pick one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A worker Deployment with the queues that it serves, and the `Celery` object that scales it."""

    name: str = "default"
    image: str = setting(
        "string",
        "",
        "Image of the workers: your Celery app with Celery installed. It has no default.",
        too_low="there is nothing to run",
    )
    celery_app: str = setting(
        "string",
        "app",
        "Celery app inside the image, as `celery -A` takes it: `module` or `module:attribute`.",
        too_low="`celery -A` finds no app and every worker stops at its start",
    )
    queues: tuple[str, ...] = setting(
        "array",
        (contract.DEFAULT_QUEUE,),
        "Queues that the pool serves. The default is Celery's own default queue.",
        too_low="the workers consume from no queue and their demand is always 0",
    )
    min_replicas: int = setting(
        "integer",
        contract.DEFAULT_MIN_REPLICAS,
        "Worker pods that always run. One is ready at once when a task comes; 0 saves it and adds the "
        "seconds of a pod's start to the first task.",
        low=0,
        high=contract.MAX_REPLICAS,
        too_high="idle pods take the cluster's place",
    )
    max_replicas: int = setting(
        "integer",
        contract.DEFAULT_MAX_REPLICAS,
        "Worker pods that may run at most. Choose what the database behind the tasks can bear.",
        low=1,
        high=contract.MAX_REPLICAS,
        too_low="the queue grows faster than it is worked off",
        too_high="one flood fills the cluster and the connections of what the tasks call",
    )
    average_value: int = setting(
        "integer",
        contract.DEFAULT_AVERAGE_VALUE,
        "Messages that one worker pod is meant for: the pool has demand / averageValue pods, rounded up. "
        "100 suits tasks of some 10 ms to 100 ms; divide it for longer ones.",
        low=1,
        high=contract.MAX_AVERAGE_VALUE,
        too_low="a short burst starts more pods than it keeps busy",
        too_high="tasks wait although more pods were allowed",
    )
    concurrency: int = setting(
        "integer",
        contract.DEFAULT_CONCURRENCY,
        "Tasks that one worker pod runs at a time (`celery worker -c`). One process per pod keeps CPU and "
        "memory limits about one task.",
        low=1,
        high=contract.MAX_CONCURRENCY,
        too_low="a worker without a process runs nothing",
        too_high="the processes of one pod share its memory limit and are killed together",
    )
    grace_period_seconds: int = setting(
        "integer",
        300,
        "Seconds that a worker may take for its running tasks after it was told to stop: longer than the "
        "longest task. A worker that is done leaves at once, so a generous value costs nothing.",
        low=1,
        high=24 * 60 * 60,
        too_low="Kubernetes kills the worker in the middle of a task, and Redis redelivers it only after "
        "the visibility timeout, an hour later",
        too_high="a task that hangs keeps its pod, and `pulumi destroy`, that long",
    )
    log_level: str = setting(
        "string",
        "info",
        "The least severe lines that workers log.",
        choices=("debug", "info", "warning", "error", "critical"),
    )
    max_tasks_per_child: int = setting(
        "integer",
        0,
        "Tasks after which a worker process is replaced, against leaks; 0 never replaces it.",
        low=0,
        high=1_000_000,
        too_low="processes are replaced all the time and their start outweighs the tasks",
        too_high="a leak reaches the memory limit first",
    )
    resources: Mapping[str, Any] = _resources("100m", "128Mi", "1", "512Mi")
    env: Mapping[str, str] = setting(
        "object",
        {},
        "Environment of the workers, name to value. Not for secrets, which belong into a Secret that "
        "envFrom names.",
    )
    env_from: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        "Secrets and ConfigMaps whose keys become environment variables of the workers, in the shape of a "
        "container's `envFrom`.",
        items="object",
    )
    service_account: str = setting(
        "string",
        "",
        "ServiceAccount of the worker pods, for cloud identities; it must exist. Empty means the "
        "namespace's default. Its token is never mounted.",
    )
    image_pull_secrets: tuple[str, ...] = setting("array", (), "Secrets that open the images' registry.")
    image_pull_policy: str = setting(
        "string",
        "IfNotPresent",
        "When nodes ask the registry for an image. The default suits tags that never move.",
        choices=("IfNotPresent", "Always", "Never"),
    )
    behavior: Mapping[str, Any] = setting(
        "object",
        {},
        "How fast the pool may grow and shrink, in the shape of a HorizontalPodAutoscaler's `behavior`. "
        "Left out, it grows at once and shrinks after 60 s of calm.",
    )
    paused: bool = setting("boolean", False, "Keeps the pool at its present number of pods.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one stack is asked to be."""

    stack: str
    defaults: Pool
    """The flat keys; what runs beside the workers takes its pull policy and pull secrets from here."""
    pools: tuple[Pool, ...]

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
    redis_resources: Mapping[str, Any] = _resources(
        "100m", "256Mi", "1", "1Gi", "1 GiB of memory holds about a million small messages."
    )
    broker_transport_options: Mapping[str, Any] = setting(
        "object",
        {},
        "`broker_transport_options` for workers and scaler alike (`visibility_timeout`, `sep`, "
        "`priority_steps`, `global_keyprefix`, ...). Producers outside the stack need the same.",
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
    flower_resources: Mapping[str, Any] = _resources("50m", "128Mi", "500m", "256Mi")
    flower_auth_secret: str = setting(
        "string",
        "",
        "Name of a Secret, made by you, whose key `basic-auth` is `user:password`. Empty means that the "
        "stack makes `flower-auth` with a random password.",
    )
    scaler_resources: Mapping[str, Any] = _resources(
        "50m", "96Mi", "500m", "192Mi", "The scaler takes about 60 MiB, more with hundreds of pools."
    )
    scaler_service_type: str = setting(
        "string",
        "ClusterIP",
        "How the scaler's /metrics and /healthz are reached; they ask for no password.",
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
        "are any, `discard` lets running ones finish and gives up the queued ones.",
        choices=("drain", "refuse", "discard"),
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
