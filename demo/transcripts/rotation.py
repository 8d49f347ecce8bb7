"""Tells of a stack on RabbitMQ and PostgreSQL, and of new passwords for both while tasks run."""

from __future__ import annotations

import base64
from typing import Final

from demo.commands import wait_until
from demo.flood import publish
from demo.transcripts.page import Page, make_stack, settings_here

FILE: Final = "pulumi-rotation.md"
STACK: Final = "rabbit"
STACKS: Final = (STACK,)
NAMESPACE: Final = f"celery-fleet-{STACK}"
HEAD: Final = """\
# RabbitMQ and PostgreSQL, and new passwords while tasks run

Written by `python -m demo.transcripts rotation`: what the commands printed, without colours, this machine's
folders and the lines that a resource is being created, refreshed or deleted. Which steps a new password
takes, and why: `docs/decisions/0018-rotation.md`.
"""
SETTINGS: Final = {
    "flowerNodePort": "0",
    "flowerServiceType": "ClusterIP",
    "scalerNodePort": "0",
    "scalerServiceType": "ClusterIP",
    "sampleAppNodePort": "0",
    "rabbitmqPersistence.enabled": "false",
    "postgresqlPersistence.enabled": "false",
    "rabbitmqResources.requests.cpu": "20m",
    "rabbitmqResources.requests.memory": "128Mi",
    "rabbitmqResources.limits.cpu": "1",
    "rabbitmqResources.limits.memory": "512Mi",
}
SERVERS: Final = ("redis", "rabbitmq", "postgresql")
FLOOD: Final = "tasks=4000&batches=1&task=sleep&ms=100"
ADD: Final = "from sample_app.tasks import add; print(add.delay(2, 3).get(timeout=60))"
SECRETS: Final = ("celery-broker", "celery-result-backend")
PASSWORDS: Final = ("password", "scaler-password")


def tell(page: Page) -> None:
    make_stack(page, STACK, {**settings_here(page, SERVERS), **SETTINGS})
    page.say("Another broker and another result backend")
    page.pulumi(STACK, "config", "set", "broker", "rabbitmq")
    page.pulumi(STACK, "config", "set", "queueType", "quorum")
    page.pulumi(STACK, "config", "set", "resultBackend", "postgresql")
    page.pulumi(STACK, "up", "--yes", "--skip-preview")
    page.kubectl("get", "cel,deployments", "-n", NAMESPACE)
    page.note("A task, and its result from the database:")
    page.kubectl("exec", "-n", NAMESPACE, "deployment/sample-app", "--", "python3", "-c", ADD)

    page.say("New passwords under load")
    before = _passwords(page)
    kept = _pods(page)
    page.note(f"`POST /flood?{FLOOD}` on the sample application's page.")
    publish(page.cluster, NAMESPACE, FLOOD)
    page.pulumi(STACK, "config", "set", "passwordGeneration", "2")
    page.pulumi(STACK, "preview")
    page.pulumi(STACK, "up", "--yes", "--skip-preview")
    page.note("Servers and scaler are the same pods; the servers say which password is in force.")
    page.same("the pods of servers and scaler", kept, _pods(page))
    for server in ("rabbitmq", "postgresql"):
        in_force = ("logs", f"deployment/{server}", "-n", NAMESPACE, "--tail=1000")
        lines = [line for line in page.cluster.kubectl(*in_force).splitlines() if "in force is" in line]
        page.note("\n".join(f"- {server}: `{line}`" for line in lines))
        page.expect(len(lines) >= 2, f"{server} has two passwords in a row")
    page.kubectl("get", "cel", "-n", NAMESPACE)
    wait_until(lambda: _left(page) == 0, "all tasks are done", timeout_seconds=600)
    page.kubectl("exec", "-n", NAMESPACE, "deployment/sample-app", "--", "python3", "-c", ADD)
    page.pulumi(STACK, "up", "--yes")
    _shows_nowhere(page, before | _passwords(page))

    page.say("And away")
    page.pulumi(STACK, "destroy", "--yes", "--skip-preview")


def _passwords(page: Page) -> frozenset[str]:
    found = [page.cluster.get("secret", name, f"--namespace={NAMESPACE}")["data"] for name in SECRETS]
    return frozenset(
        base64.b64decode(data[key]).decode() for data in found for key in PASSWORDS if key in data
    )


def _pods(page: Page) -> str:
    which = "app.kubernetes.io/name in (rabbitmq,postgresql,celery-fleet-scaler)"
    columns = ("NAME:.metadata.name", "UID:.metadata.uid", "STARTS:.status.containerStatuses[0].restartCount")
    shape = f"custom-columns={','.join(columns)}"
    return page.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", which, "-o", shape)


def _left(page: Page) -> int:
    status = page.cluster.get("celery", "default", f"--namespace={NAMESPACE}").get("status", {})
    figures = [status.get(figure) for figure in ("queued", "unacked", "active")]
    # Unknown is not zero: -1 is neither some nor none.
    return -1 if None in figures else sum(figures)


def _shows_nowhere(page: Page, passwords: frozenset[str]) -> None:
    """In what is printed above, in the exported state, in objects, events and logs."""
    page.expect(len(passwords) == 6, "two passwords of three users")
    pods = page.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name").split()
    places = {
        "this page": page.text,
        "pulumi stack export": page.export(STACK),
        "objects and events": page.cluster.kubectl("get", "all,cel,cm,events", "-n", NAMESPACE, "-o", "yaml"),
        "descriptions": page.cluster.kubectl("describe", "all", "-n", NAMESPACE, timeout_seconds=120),
        **{pod: page.cluster.kubectl("logs", pod, "-n", NAMESPACE, "--tail=-1") for pod in pods},
    }
    for place, text in places.items():
        page.expect(not [one for one in passwords if one in text], f"no password shows in {place}")
    shown = ", ".join(place for place in places if not place.startswith("pod/"))
    page.note(f"None of the six passwords shows in {shown}, or in the logs of {len(pods)} pods.")
