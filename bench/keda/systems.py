"""Owns what is compared: two scalers, each with its defaults and tuned, and how one is put in charge.

KEDA gets the same rendered stack with our scaler at no replicas, and a ScaledObject with the limits and the
messages per worker that the stack's own pool has. Tuned is what a person reaches with the documented settings
of each; docs of KEDA's: https://keda.sh/docs/2.20/reference/scaledobject-spec/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaler.contract import SCALER_NAME
from tests.e2e.stack import WORKERS, Stack

LIST: Final = "celery"
NAME: Final = "workers"
READY_SECONDS: Final = 120
GONE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    name: str
    settings: Mapping[str, object]
    """Of the stack."""
    spec: Mapping[str, Any] | None = None
    """Of the ScaledObject; None where our scaler scales."""

    @property
    def is_keda(self) -> bool:
        return self.spec is not None


AT_ONCE: Final = {"scaleDown": {"stabilizationWindowSeconds": 0}}
WITHOUT_LIMITS: Final = {
    direction: {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 1000, "periodSeconds": 15}],
    }
    for direction in ("scaleUp", "scaleDown")
}

OURS: Final = System(name="Celery Fleet", settings={"behavior": "{}"})
KEDA: Final = System(name="KEDA + HPA", settings={"behavior": "{}"}, spec={})
OURS_TUNED: Final = System(
    name="Celery Fleet, tuned", settings={"behavior": json.dumps(AT_ONCE), "pollSeconds": 1}
)
KEDA_TUNED: Final = System(
    name="KEDA + HPA, tuned",
    settings={"behavior": "{}"},
    spec={
        "pollingInterval": 1,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": WITHOUT_LIMITS}},
    },
)
SYSTEMS: Final = (OURS, KEDA, OURS_TUNED, KEDA_TUNED)
"""In the order of the table."""


def put_in_charge(system: System, stack: Stack) -> None:
    """Of a stack that is ready, has nothing to do, and is under our scaler."""
    if system.spec is None:
        return
    stack.kubectl("scale", f"deployment/{SCALER_NAME}", "--replicas=0")
    gone = ("--for=delete", "pod", f"--selector=app.kubernetes.io/name={SCALER_NAME}")
    stack.kubectl("wait", *gone, f"--timeout={GONE_SECONDS}s", seconds=GONE_SECONDS + 5)
    stack.kubectl("apply", "--filename=-", stdin=json.dumps(objects(stack, system.spec)))
    _wait(stack)


def retire(stack: Stack) -> None:
    """KEDA, where it is in charge; returns when its objects are gone."""
    kinds = "scaledobjects.keda.sh,triggerauthentications.keda.sh"
    words = ("delete", kinds, "--all", f"--timeout={GONE_SECONDS}s")
    stack.kubectl(*words, seconds=GONE_SECONDS + 5)


def _wait(stack: Stack) -> None:
    timeout = f"--timeout={READY_SECONDS}s"
    stack.kubectl("wait", "--for=condition=Ready", f"scaledobject/{NAME}", timeout, seconds=READY_SECONDS + 5)
    # Its controller has read the metric at least once.
    words = ("wait", "--for=condition=ScalingActive", f"hpa/keda-hpa-{NAME}", timeout)
    stack.kubectl(*words, seconds=READY_SECONDS + 5)


def objects(stack: Stack, spec: Mapping[str, Any]) -> dict[str, Any]:
    """For `kubectl apply`: KEDA's way to the stack's broker, and the pool's limits in its words."""
    secret = {"parameter": "password", "name": "celery-broker", "key": "password"}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            _object("TriggerAuthentication", "broker", {"secretTargetRef": [secret]}),
            _object("ScaledObject", NAME, {**_scaled(stack), **spec}),
        ],
    }


def _scaled(stack: Stack) -> dict[str, Any]:
    trigger = {
        "type": "redis",
        "metadata": {
            "address": f"redis.{stack.namespace}.svc.cluster.local:6379",
            "listName": LIST,
            "listLength": stack.settings["averageValue"],
        },
        "authenticationRef": {"name": "broker"},
    }
    return {
        "scaleTargetRef": {"name": WORKERS},
        "minReplicaCount": int(stack.settings["minReplicas"]),
        "maxReplicaCount": int(stack.settings["maxReplicas"]),
        "triggers": [trigger],
    }


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }
