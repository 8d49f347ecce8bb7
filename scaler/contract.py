"""What the Pulumi program promises and the scaler expects; both import it, neither imports the other.

It owns the names of the custom resource, the words of the rules that the CRD, `pulumi preview` and
the scaler all check, the scaler's environment and rights, and `Policy`: one `Celery` object as the
scaler uses it.
It imports the standard library only: the Pulumi program loads it without the scaler's dependencies.

The decision made with a `Policy` is in `scaler.pool.decision`; the CRD's schema is in
`infra.components.fleet_objects`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

GROUP: Final = "celeryproject.org"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "Celery"
PLURAL: Final = "celery"
CRD_NAME: Final = f"{PLURAL}.{GROUP}"

SCALER_NAME: Final = "celery-fleet-scaler"
"""Name of the scaler's Deployment, ServiceAccount, Role and Lease, and its field manager."""

POOL_LABEL: Final = f"{GROUP}/pool"
"""Label on a pool's worker Deployment, its pods and its `Celery` object; the value is the pool's name."""

SETTINGS_ANNOTATION: Final = f"{GROUP}/settings"
"""Annotation on a `Celery` object that Pulumi makes: where the stack's configuration has the pool's settings,
as `pools.mail`; empty where they are the flat keys."""

HTTP_PORT: Final = 8080
"""Where the scaler serves its page, /healthz and /metrics."""

OWN_PREFIX: Final = "celery-fleet."
"""What the names of all begin with that the scaler makes in a broker."""

MAX_REPLICAS: Final = 1000
MAX_CONCURRENCY: Final = 1000
MAX_AVERAGE_VALUE: Final = 1_000_000
MAX_QUEUES_LENGTH: Final = 1024
"""Characters in `spec.workerSpec.queues`, commas included: as many as CEL's cost limit allows its rules."""

MAX_DRAIN_SECONDS: Final = 7 * 24 * 60 * 60
"""A week: longer than any task that a worker pod should be left with."""

MAX_SCALE_EVENTS: Final = 1000
"""Entries of `status.scaleEvents`: a change in each tick of 2 s over the longest period of a step limit."""

DEFAULT_QUEUE: Final = "celery"
DEFAULT_AVERAGE_VALUE: Final = 100
DEFAULT_MIN_REPLICAS: Final = 1
DEFAULT_MAX_REPLICAS: Final = 10
DEFAULT_CONCURRENCY: Final = 1
DEFAULT_CALM_SECONDS: Final = 60
"""Scale-down window. HPA's default is 300 s, chosen for metrics that lag; a queue length does not."""
DEFAULT_DRAIN_SECONDS: Final = 300
"""Deadline of a drain, as long as the workers' grace period is by default; after it the worker is kept."""
DEFAULT_TOLERANCE: Final = 0.1
"""As HPA's: a demand within 10 % of what the replicas are meant for changes nothing."""


class Env(StrEnum):
    """Environment of the scaler's container; set by `infra.components.autoscaler`, read by
    `scaler.settings`."""

    NAMESPACE = "CELERY_FLEET_NAMESPACE"
    POD_NAME = "CELERY_FLEET_POD_NAME"
    BROKER_URL_FILE = "CELERY_FLEET_BROKER_URL_FILE"
    BROKER_MANAGEMENT_URL_FILE = "CELERY_FLEET_BROKER_MANAGEMENT_URL_FILE"
    BROKER_CA_FILE = "CELERY_FLEET_BROKER_CA_FILE"
    BROKER_TRANSPORT_OPTIONS = "CELERY_FLEET_BROKER_TRANSPORT_OPTIONS"
    POLL_SECONDS = "CELERY_FLEET_POLL_SECONDS"
    CONTROL_EXCHANGE = "CELERY_FLEET_CONTROL_EXCHANGE"
    EVENT_EXCHANGE = "CELERY_FLEET_EVENT_EXCHANGE"
    HANDSHAKE = "CELERY_FLEET_HANDSHAKE"
    LOG_LEVEL = "CELERY_FLEET_LOG_LEVEL"
    STACK = "CELERY_FLEET_STACK"
    STACK_URL = "CELERY_FLEET_STACK_URL"
    PAGE_PREFIX = "CELERY_FLEET_PAGE_PREFIX"
    FLOWER_URL = "CELERY_FLEET_FLOWER_URL"
    GRAFANA_URL = "CELERY_FLEET_GRAFANA_URL"


RBAC_RULES: Final[tuple[Mapping[str, Sequence[str]], ...]] = (
    {"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["list", "watch"]},
    {"apiGroups": [GROUP], "resources": [f"{PLURAL}/status"], "verbs": ["patch"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list", "watch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [SCALER_NAME],
        "verbs": ["get", "update"],
    },
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
)
"""The `rules` of the scaler's Role, in one namespace: exactly the calls of `scaler.cluster.client`.

`create` cannot be limited to a name (kubernetes.io, "Referring to resources"), hence the leases' two rules.
"""


def rabbitmq_permissions(
    control_exchange: str = "celery", event_exchange: str = "celeryev"
) -> Mapping[str, str]:
    """The permissions of the scaler's RabbitMQ user in the app's vhost, beside the tag `monitoring`.

    Exactly what remote control and heartbeats need; the arguments are the app's settings of those names.
    It can take no message of the app, publish no task and delete nothing.
    """
    own, control, events = map(_exactly, (OWN_PREFIX, f"{control_exchange}.pidbox", event_exchange))
    return {
        "configure": f"^{own}",
        "write": f"^({own}.*|{control})$",
        "read": f"^({own}.*|{events})$",
    }


def redis_rights(event_exchange: str = "celeryev") -> str:
    """The rules of the scaler's user in Redis' ACL: reads, remote control, and the binding for heartbeats.

    It can read every queue, take no message of the app, publish no task and delete nothing but its own.
    Redis 7 or Valkey: earlier ones know no keys that may only be read.
    """
    # kombu/transport/redis.py, `_queue_bind`: 5.7 has the second set, too.
    bindings = [f"~*_kombu.{table}.{event_exchange}" for table in ("binding", "binding_permanent")]
    keys = ("%R~*", f"~*{OWN_PREFIX}*", *bindings)
    return " ".join((*keys, "&*", *(f"+{command}" for command in _REDIS_COMMANDS)))


_REDIS_COMMANDS: Final = (
    *("select", "ping", "role", "multi", "exec"),
    *("llen", "lrange", "memory|usage", "hlen", "hkeys", "hstrlen", "hget", "zrange", "smembers"),
    *("publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"),
    # The workers' answers are a list of the scaler's own.
    *("sadd", "srem", "brpop", "del"),
)


def _exactly(name: str) -> str:
    return re.escape(name).replace("\\-", "-")


class Ready(StrEnum):
    """Reasons of the condition Ready; the ones that `FleetLifecycle` waits for and passes on."""

    WATCHING = "Watching"
    INVALID_SPEC = "InvalidSpec"
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    BROKER_URL_INVALID = "BrokerUrlInvalid"
    BROKER_UNREACHABLE = "BrokerUnreachable"
    BROKER_NOT_TRUSTED = "BrokerNotTrusted"
    BROKER_REFUSED = "BrokerRefused"
    BROKER_NOT_READY = "BrokerNotReady"
    BROKER_UNREADABLE = "BrokerUnreadable"
    VHOST_NOT_FOUND = "VhostNotFound"
    QUEUE_NOT_FOUND = "QueueNotFound"
    MANAGEMENT_UNAVAILABLE = "ManagementUnavailable"
    OTHER_SCALER = "OtherScaler"
    FORBIDDEN = "Forbidden"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about a `Celery` object with its one sentence, wherever it is checked."""

    cel: str
    """The rule as CEL over `self`; `infra.components.fleet_objects` hangs it where `self` is what it
    speaks of."""
    message: str
    """Fixed words: CEL's cost limit forbids numbers in messages (kubernetes/kubernetes#124234)."""


MIN_ABOVE_MAX: Final = Rule(
    "self.minReplicas <= self.maxReplicas", "minReplicas must not be greater than maxReplicas"
)
QUEUE_EMPTY: Final = Rule(
    "self.split(',').all(queue, queue.trim() != '')",
    "queues must name at least one queue, and no name may be empty",
)
QUEUE_TWICE: Final = Rule(
    # Two loops over the names are over CEL's cost limit by far, so each name is looked for in the text.
    "[',' + self.replace(', ', ',') + ','].all(text, self.replace(', ', ',').split(',')"
    ".map(queue, ',' + queue + ',').all(queue, text.indexOf(queue) == text.lastIndexOf(queue)))",
    "queues must not name a queue twice",
)


class InvalidSpec(ValueError):  # noqa: N818  # the condition's reason
    """A stored object that the scaler cannot follow: the message names the field and what is wrong."""


class SelectPolicy(StrEnum):
    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class StepType(StrEnum):
    PODS = "Pods"
    PERCENT = "Percent"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimit:
    """One entry of `behavior.scaleUp.policies` or `scaleDown.policies`, with autoscaling/v2's meaning."""

    type: StepType
    value: int
    period_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """`behavior.scaleUp` or `behavior.scaleDown`, with autoscaling/v2's meaning.

    No step limits means no limit: one tick may go all the way. That differs from HPA, whose default
    allows at most 4 pods or 100 % per 15 s upwards.
    """

    stabilization_seconds: int
    select_policy: SelectPolicy = SelectPolicy.MAX
    limits: tuple[StepLimit, ...] = ()
    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    scale_up: ScalingRules = field(default_factory=lambda: ScalingRules(stabilization_seconds=0))
    scale_down: ScalingRules = field(
        default_factory=lambda: ScalingRules(stabilization_seconds=DEFAULT_CALM_SECONDS)
    )


class Mode(StrEnum):
    """Whether the scaler acts on a pool or only says what it would do."""

    ACTIVE = "active"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one `Celery` object asks of the scaler."""

    deployment: str
    queues: tuple[str, ...]
    min_replicas: int
    max_replicas: int
    average_value: int
    """Messages that one worker pod is meant for: HPA's AverageValue."""
    concurrency: int = DEFAULT_CONCURRENCY
    behavior: Behavior = field(default_factory=Behavior)
    paused: bool = False
    mode: Mode = Mode.ACTIVE
    """In shadow nothing is written to the Deployment and nothing is told to the workers."""
    drain_seconds: int = DEFAULT_DRAIN_SECONDS
    """Seconds from the choice of a victim until its drain is cancelled and it works on; nothing is killed."""
    image: str = ""
    """What the workers run, by the object; "" where it does not say."""


def worker_deployment_name(app_name: str) -> str:
    """The Deployment that a `Celery` object means when its scaleTargetRef names none."""
    return f"{app_name}-celery-worker"


def policy_of(spec: Mapping[str, Any]) -> Policy:
    """Read `spec` of a `Celery` object.

    The API server has checked it against the CRD, but perhaps an older one, or before the CRD was
    there: everything is checked again. Raises InvalidSpec.
    """
    common = _mapping(spec, "common")
    worker = _mapping(spec, "workerSpec")
    targets = _sequence(spec, "scaleTargetRef")
    if len(targets) != 1 or not isinstance(targets[0], Mapping):
        raise InvalidSpec("scaleTargetRef must have exactly one entry, of kind worker")
    target = targets[0]
    if target.get("kind") != "worker":
        raise InvalidSpec("scaleTargetRef[0].kind must be worker")
    min_replicas = _integer(target, "minReplicas", DEFAULT_MIN_REPLICAS, 0, MAX_REPLICAS)
    max_replicas = _integer(target, "maxReplicas", DEFAULT_MAX_REPLICAS, 1, MAX_REPLICAS)
    if min_replicas > max_replicas:
        raise InvalidSpec(f"{MIN_ABOVE_MAX.message} ({min_replicas} > {max_replicas})")
    app_name = common.get("appName")
    if not isinstance(app_name, str) or not app_name:
        raise InvalidSpec("common.appName must be given")
    return Policy(
        deployment=str(target.get("name") or worker_deployment_name(app_name)),
        queues=queues_of(worker.get("queues", DEFAULT_QUEUE)),
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        average_value=_average_value(target),
        concurrency=_integer(worker, "concurrency", DEFAULT_CONCURRENCY, 1, MAX_CONCURRENCY),
        behavior=_behavior(_mapping(target, "behavior")),
        paused=bool(target.get("paused", False)),
        mode=_mode(target),
        drain_seconds=_integer(target, "drainSeconds", DEFAULT_DRAIN_SECONDS, 1, MAX_DRAIN_SECONDS),
        image=str(common.get("image") or ""),
    )


def queues_of(text: object) -> tuple[str, ...]:
    """Split `spec.workerSpec.queues` ("a,b") as Celery's `-Q` does. Raises InvalidSpec."""
    if not isinstance(text, str) or len(text) > MAX_QUEUES_LENGTH:
        raise InvalidSpec(f"queues must be a text of at most {MAX_QUEUES_LENGTH} characters")
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise InvalidSpec(QUEUE_EMPTY.message)
    if len(set(names)) != len(names):
        raise InvalidSpec(QUEUE_TWICE.message)
    return names


def _mode(target: Mapping[str, Any]) -> Mode:
    value = target.get("mode", Mode.ACTIVE)
    if value not in tuple(Mode):
        raise InvalidSpec(f"mode must be one of {', '.join(Mode)}, not {value!r}")
    return Mode(value)


def _average_value(target: Mapping[str, Any]) -> int:
    metrics = _sequence(target, "metrics")
    for metric in metrics:
        if isinstance(metric, Mapping) and metric.get("name") == "message_queue":
            return _integer(
                _mapping(metric, "target"), "averageValue", DEFAULT_AVERAGE_VALUE, 1, MAX_AVERAGE_VALUE
            )
    if metrics:
        raise InvalidSpec("metrics must hold one named message_queue")
    return DEFAULT_AVERAGE_VALUE


def _behavior(spec: Mapping[str, Any]) -> Behavior:
    defaults = Behavior()
    return Behavior(
        scale_up=_scaling_rules(_mapping(spec, "scaleUp"), defaults.scale_up),
        scale_down=_scaling_rules(_mapping(spec, "scaleDown"), defaults.scale_down),
    )


def _scaling_rules(spec: Mapping[str, Any], default: ScalingRules) -> ScalingRules:
    try:
        limits = tuple(
            StepLimit(
                type=StepType(limit["type"]),
                value=_integer(limit, "value", None, 1, MAX_AVERAGE_VALUE),
                period_seconds=_integer(limit, "periodSeconds", None, 1, 1800),
            )
            for limit in _sequence(spec, "policies")
        )
        select_policy = SelectPolicy(spec.get("selectPolicy", default.select_policy))
        tolerance = float(spec.get("tolerance", default.tolerance))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSpec(f"behavior: {error}") from error
    if not 0 <= tolerance <= 1:
        raise InvalidSpec("behavior: tolerance must be between 0 and 1")
    return ScalingRules(
        stabilization_seconds=_integer(
            spec, "stabilizationWindowSeconds", default.stabilization_seconds, 0, 3600
        ),
        select_policy=select_policy,
        limits=limits,
        tolerance=tolerance,
    )


def _mapping(spec: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = spec.get(key, {})
    if not isinstance(value, Mapping):
        raise InvalidSpec(f"{key} must be an object")
    return value


def _sequence(spec: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = spec.get(key, [])
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidSpec(f"{key} must be a list")
    return value


def _integer(spec: Mapping[str, Any], key: str, default: int | None, low: int, high: int) -> int:
    value = spec.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidSpec(f"{key} must be a whole number from {low} to {high}, not {value!r}")
    return value
