"""The schema of the `Celery` custom resource, as its CustomResourceDefinition states it.

It owns fields, defaults, bounds, CEL rules and printer columns. Every field of the operator that this
project replaces keeps its name, place and meaning. The words of the rules are those of
`scaler.contract`, which the scaler and `pulumi preview` say, too.

`REVISION` grows with every change here: programs of different age share one CRD on a cluster, and the
older one leaves a newer CRD alone (`infra.program`), or the API server would prune the newer fields out
of stored objects.
"""

from __future__ import annotations

from typing import Any, Final

from scaler import contract

REVISION: Final = 3
REVISION_ANNOTATION: Final = f"{contract.GROUP}/schema-revision"

Schema = dict[str, Any]

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_QUANTITY = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"


def _text(description: str, most: int, **more: Any) -> Schema:
    return {"type": "string", "description": description, "maxLength": most, **more}


def _number(description: str, low: int, high: int, **more: Any) -> Schema:
    return {"type": "integer", "description": description, "minimum": low, "maximum": high, **more}


def _object(description: str, properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "description": description, "properties": properties, **more}


def _list(description: str, items: Schema, most: int, **more: Any) -> Schema:
    return {"type": "array", "description": description, "items": items, "maxItems": most, **more}


def _rules(*rules: contract.Rule) -> Schema:
    return {"x-kubernetes-validations": [{"rule": rule.cel, "message": rule.message} for rule in rules]}


def _resources() -> Schema:
    amounts = {
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY,
            "x-kubernetes-int-or-string": True,
        },
    }
    return _object(
        "Requests and limits of the container.",
        {
            "requests": {**amounts, "description": "What the scheduler reserves."},
            "limits": {**amounts, "description": "What the container may use at most."},
        },
    )


COMMON: Final = _object(
    "What workers and Flower share.",
    {
        "appName": _text(
            "Name of the pool: its worker Deployment is <appName>-celery-worker.", 63, pattern=_NAME
        ),
        "celeryApp": _text("Celery app inside the image, as `celery -A` takes it.", 253),
        "image": _text("Image of the workers.", 1024),
    },
    required=["appName"],
)

WORKER_SPEC: Final = _object(
    "The workers of the pool, as their Deployment declares them.",
    {
        "numOfWorkers": _number(
            "Workers when the pool is made; later the scaler decides.", 0, contract.MAX_REPLICAS
        ),
        "queues": _text(
            "Queues that the pool serves, separated by commas.",
            contract.MAX_QUEUES_LENGTH,
            default=contract.DEFAULT_QUEUE,
            **_rules(contract.QUEUE_EMPTY, contract.QUEUE_TWICE),
        ),
        "logLevel": _text("The least severe lines that workers log.", 16),
        "concurrency": _number(
            "Tasks that one worker runs at a time.",
            1,
            contract.MAX_CONCURRENCY,
            default=contract.DEFAULT_CONCURRENCY,
        ),
        "maxTasksPerChild": _number(
            "Tasks after which a worker process is replaced; 0 never replaces it.", 0, 1_000_000
        ),
        "resources": _resources(),
    },
    default={},
)

FLOWER_SPEC: Final = _object(
    "Flower, as its Deployment declares it.",
    {"replicas": _number("Flower pods.", 0, 10), "resources": _resources()},
)


def _scaling_rules(description: str) -> Schema:
    policy = _object(
        "At most `value` pods, or percent of them, within `periodSeconds`.",
        {
            "type": {"type": "string", "enum": [kind.value for kind in contract.StepType]},
            "value": _number("Pods or percent.", 1, contract.MAX_AVERAGE_VALUE),
            "periodSeconds": _number("Seconds that the limit looks back.", 1, 1800),
        },
        required=["type", "value", "periodSeconds"],
    )
    return _object(
        description,
        {
            "stabilizationWindowSeconds": _number(
                "Seconds for which the most careful wish counts. Default: 0 upwards, "
                f"{contract.DEFAULT_CALM_SECONDS} downwards.",
                0,
                3600,
            ),
            "selectPolicy": {
                "type": "string",
                "description": "Which of several policies counts; Disabled forbids this direction.",
                "enum": [choice.value for choice in contract.SelectPolicy],
            },
            "policies": _list("Step limits; none means no limit.", policy, 10),
            "tolerance": {
                "type": "number",
                "description": "Share by which demand may differ from what the replicas are meant for "
                f"before they change. Default: {contract.DEFAULT_TOLERANCE}.",
                "minimum": 0,
                "maximum": 1,
            },
        },
    )


METRIC: Final = _object(
    "What the demand is measured by.",
    {
        "name": {
            "type": "string",
            "description": "message_queue: due messages in the queues and at the workers, each task once.",
            "enum": ["message_queue"],
        },
        "target": _object(
            "How much of it one worker is meant for.",
            {
                "type": {
                    "type": "string",
                    "description": "length: a number of messages.",
                    "enum": ["length"],
                    "default": "length",
                },
                "averageValue": _number(
                    "Messages that one worker is meant for.",
                    1,
                    contract.MAX_AVERAGE_VALUE,
                    default=contract.DEFAULT_AVERAGE_VALUE,
                ),
            },
            default={},
        ),
    },
    required=["name"],
)

SCALE_TARGET: Final = _object(
    "What is scaled, between which bounds, and by what.",
    {
        "kind": {
            "type": "string",
            "description": "worker: the pool's worker Deployment.",
            "enum": ["worker"],
            "default": "worker",
        },
        "name": _text("Name of the Deployment. Default: <appName>-celery-worker.", 253),
        "minReplicas": _number(
            "Workers that always run.", 0, contract.MAX_REPLICAS, default=contract.DEFAULT_MIN_REPLICAS
        ),
        "maxReplicas": _number(
            "Workers that may run at most.", 1, contract.MAX_REPLICAS, default=contract.DEFAULT_MAX_REPLICAS
        ),
        "metrics": _list("Default: message_queue, 100 messages a worker.", METRIC, 4),
        "behavior": _object(
            "How fast the workers may grow and shrink, as a HorizontalPodAutoscaler's behavior.",
            {"scaleUp": _scaling_rules("The way up."), "scaleDown": _scaling_rules("The way down.")},
        ),
        "paused": {
            "type": "boolean",
            "description": "Keeps the workers at their present number.",
            "default": False,
        },
        "mode": {
            "type": "string",
            "description": "active scales the Deployment. shadow only says what it would do: it writes no "
            "replicas and tells the workers nothing, so another autoscaler may be there.",
            "enum": [mode.value for mode in contract.Mode],
            "default": contract.Mode.ACTIVE.value,
        },
        "drainSeconds": _number(
            "Seconds that a worker chosen to leave may take for its tasks; then it is kept instead.",
            1,
            contract.MAX_DRAIN_SECONDS,
            default=contract.DEFAULT_DRAIN_SECONDS,
        ),
    },
    **_rules(contract.MIN_ABOVE_MAX),
)

SPEC: Final = _object(
    "What the pool is asked to be.",
    {
        "common": COMMON,
        "workerSpec": WORKER_SPEC,
        "flowerSpec": FLOWER_SPEC,
        "scaleTargetRef": _list("Exactly one entry, for the workers.", SCALE_TARGET, 1, minItems=1),
    },
    required=["common", "scaleTargetRef"],
)
