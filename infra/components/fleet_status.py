"""The status of the `Celery` custom resource, and what `kubectl get` shows of it.

The scaler writes it (`scaler.pool.status`); what is not known is absent, never 0. The spec's schema is in
`infra.components.fleet_schema`, the object that carries both in `infra.components.fleet_objects`.
"""

from __future__ import annotations

from typing import Any, Final

from scaler import contract

Schema = dict[str, Any]


def _figure(description: str) -> Schema:
    return {"type": "integer", "description": f"{description} Absent where it is not known."}


def _moment(description: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": description}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


CONDITION: Final[Schema] = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": _text("Ready, Active, ScalingActive, ScalingLimited or Draining."),
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "description": "Generation that this is about."},
        "lastTransitionTime": _moment("When the status last changed."),
        "reason": _text("One word for programs."),
        "message": _text("One sentence for people."),
    },
}

STATUS: Final[Schema] = {
    "type": "object",
    "description": "What the scaler found and decided.",
    "properties": {
        "observedGeneration": {"type": "integer", "description": "Generation that the scaler acts on."},
        "replicas": {"type": "integer", "description": "Worker pods that exist."},
        "desiredReplicas": {"type": "integer", "description": "Worker pods that the scaler asked for."},
        "queued": _figure("Messages in the queues, all priorities."),
        "unacked": _figure("Messages that workers hold and have not acknowledged."),
        "active": _figure("Tasks that run."),
        "notDue": _figure("Tasks with a time in the future, wherever they wait."),
        "nextDueTime": _moment("When the next of those is due. Absent where there is none."),
        "capacity": _figure("Tasks that the workers which still take any can run at a time."),
        "stranded": _figure("Messages that workers held which are gone; the broker gives them back late."),
        "calmSince": _moment("Since when fewer workers would do."),
        "lastScaleTime": _moment("When the scaler last changed the replicas."),
        "scaleEvents": {
            "type": "array",
            "description": "Recent changes of the replicas, for the step limits of `behavior`.",
            "maxItems": contract.MAX_SCALE_EVENTS,
            "items": {
                "type": "object",
                "required": ["at", "change"],
                "properties": {
                    "at": _moment("When."),
                    "change": {"type": "integer", "description": "How many more; negative: fewer."},
                    "replicas": {"type": "integer", "description": "How many there were to be then."},
                },
            },
        },
        "draining": {
            "type": "array",
            "description": "Workers that take no new tasks and leave when they are done.",
            "maxItems": contract.MAX_REPLICAS,
            "items": {
                "type": "object",
                "required": ["pod", "since"],
                "properties": {"pod": _text("Name of the worker's pod."), "since": _moment("Since when.")},
            },
        },
        "decision": {
            "type": "object",
            "description": "Why there are this many workers.",
            "properties": {
                "reason": _text("One word for programs."),
                "message": _text("One sentence with the numbers."),
            },
        },
        "conditions": {
            "type": "array",
            "items": CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    },
}


def _column(name: str, path: str, kind: str = "integer", **more: Any) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path, **more}


COLUMNS: Final = [
    _column("Queues", ".spec.workerSpec.queues", "string"),
    _column("Queued", ".status.queued"),
    _column("Active", ".status.active"),
    _column("Replicas", ".status.replicas"),
    _column("Desired", ".status.desiredReplicas"),
    _column("Min", ".spec.scaleTargetRef[0].minReplicas"),
    _column("Max", ".spec.scaleTargetRef[0].maxReplicas"),
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status', "string"),
    _column("Age", ".metadata.creationTimestamp", "date"),
    _column("Reason", ".status.decision.reason", "string", priority=1),
]
