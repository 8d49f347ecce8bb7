"""Owns the pod that stands outside of the fleet: it publishes a load that lasts, and reads the ledger.

No scaler and no `pulumi destroy` knows it, as a producer of another team is not known. Orders and reports go
through files: one stream of `kubectl exec` for minutes was seen to stall.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from demo.commands import DemoError

LEDGER = "/ledger"
"""Where the ledger's volume is mounted, for the tasks as for the pod outside."""
CLAIM = "ledger"
POD = "outside"
ORDERS, REPORTS = "/tmp/orders", "/tmp/reports"  # noqa: S108  # in the pod
READ_LEDGER = f"import glob; [print(open(f).read(), end='') for f in glob.glob('{LEDGER}/*.jsonl')]"
PUBLISH = f"""
import glob, json, sys
from sample_app.producer import publish
lines = (json.loads(line) for path in glob.glob("{LEDGER}/*.jsonl") for line in open(path))
there = {{line["id"] for line in lines if line["event"] == "published"}}
queue, lengths, batch, countdown = json.loads(sys.argv[1])
for number, seconds in enumerate(lengths):
    id = f"{{batch}}-{{number}}"
    if id not in there and not publish(queue, id, seconds, countdown=countdown):
        sys.exit("the broker refused a task")
"""

NO_OPTIONS: Mapping[str, object] = {}
PRODUCE = """\
import json, os, sys
from sample_app import producer, tasks
tasks.app.conf.broker_transport_options = json.loads(os.environ["TRANSPORT_OPTIONS"])
sys.exit(producer.main(sys.stdin))
"""
PASSING = ("abnormal closure", "connection reset by peer", "did not end within")
"""What a busy node does to `kubectl exec`."""

Kubectl = Callable[..., str]


class Outside:
    """In one namespace; every call is one `kubectl exec`."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def start(self, image: str, options: Mapping[str, object] = NO_OPTIONS) -> None:
        """`options` are the app's `broker_transport_options`, of which a producer needs the same."""
        self._kubectl("create", "--filename=-", stdin=json.dumps(_pod(image, options)))
        self._kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=180s", seconds=190)

    def restart(self, image: str) -> None:
        """With the password of now."""
        self._kubectl("delete", "pod", POD, "--wait")
        self.start(image)

    def order(self, queue: str, outstanding: int, *, batch: str, shortest: float, longest: float) -> None:
        """From now on so many recorded tasks of the queue are published and not finished."""
        order = {
            "queue": queue,
            "outstanding": outstanding,
            "batch": batch,
            "shortest": shortest,
            "longest": longest,
        }
        self._run("sh", "-c", f"printf '%s\\n' \"$0\" >> {ORDERS}", json.dumps(order))

    def publish(
        self, queue: str, lengths: Sequence[float], *, batch: str = "task", countdown: float | None = None
    ) -> None:
        """A recorded task for each length in seconds; those that the ledger has already are left out.

        With a countdown in seconds, their time comes then.
        """
        self._run("python3", "-c", PUBLISH, json.dumps([queue, lengths, batch, countdown]))

    def outstanding(self, queue: str) -> int:
        """By the producer's last report; an order that it has not taken up yet is not in it."""
        report = self._run("tail", "-n", "1", REPORTS)
        return int(json.loads(report)["queues"].get(queue, {}).get("outstanding", 0)) if report else 0

    def ledger(self) -> list[str]:
        """Every line that producer and tasks have written, those of pods long gone too."""
        return self._run("python3", "-c", READ_LEDGER).splitlines()

    def _run(self, *words: str) -> str:
        """Whatever is run here may be run twice: on a busy node `kubectl exec` loses its connection, or
        what is written to its standard input."""
        for tries_left in (2, 1, 0):
            try:
                return self._kubectl("exec", POD, "--", *words)
            except DemoError as trouble:
                if not tries_left or not any(sign in str(trouble) for sign in PASSING):
                    raise
        raise AssertionError("unreachable")


def claim() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def mount(template: dict[str, Any]) -> None:
    """Give a pod template's container the ledger."""
    container = template["spec"]["containers"][0]
    container.setdefault("volumeMounts", []).append({"name": CLAIM, "mountPath": LEDGER})
    container.setdefault("env", []).append({"name": "LEDGER_DIR", "value": LEDGER})
    volume = {"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}
    template["spec"].setdefault("volumes", []).append(volume)


def _pod(image: str, options: Mapping[str, object]) -> dict[str, Any]:
    produce = f'tail -f -n +1 {ORDERS} | python3 -c "$PRODUCE" >> {REPORTS}'
    told = {"name": "TRANSPORT_OPTIONS", "value": json.dumps(options)}
    url = {
        "name": "CELERY_BROKER_URL",
        "valueFrom": {"secretKeyRef": {"name": "celery-broker", "key": "url"}},
    }
    container = {
        "name": POD,
        "image": image,
        "command": ["sh", "-c", f": > {ORDERS}; : > {REPORTS}; {produce}"],
        "env": [url, told, {"name": "PRODUCE", "value": PRODUCE}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "containers": [container],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 1,
        },
    }
    mount(pod)
    return pod
