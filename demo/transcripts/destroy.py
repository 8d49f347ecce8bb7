"""Tells how a stack ends by each policy, and how a pool is taken out while tasks wait in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from demo.commands import wait_until
from demo.flood import publish
from demo.transcripts.page import Page, make_stack, settings_here

FILE: Final = "pulumi-destroy.md"
STACK: Final = "ending"
STACKS: Final = (STACK,)
NAMESPACE: Final = f"celery-fleet-{STACK}"
HEAD: Final = """\
# `pulumi destroy` by each policy, and a pool that goes

Written by `python -m demo.transcripts destroy`: what the commands printed, without colours, this machine's
folders and the lines that a resource is being created, refreshed or deleted. The stack has two pools:
`default`, which the sample application floods, and `mail`.
"""
SETTINGS: Final = {
    "pools.default.queues[0]": "celery",
    "pools.mail.queues[0]": "mail",
    "pools.mail.minReplicas": "1",
    "pools.mail.maxReplicas": "2",
    "flower": "false",
    "flowerNodePort": "0",
    "flowerServiceType": "ClusterIP",
    "scalerNodePort": "0",
    "scalerServiceType": "ClusterIP",
    "sampleAppNodePort": "0",
    "concurrency": "5",
    "gracePeriodSeconds": "60",
}
DESTROY: Final = ("destroy", "--yes", "--skip-preview")
FLOOD: Final = "tasks=5000&batches=1&task=sleep&ms=100"
SEND_MAIL: Final = (
    "from sample_app.tasks import app; "
    "[app.send_task('sample_app.tasks.sleep', (4,), queue='mail') for _ in range(12)]"
)


def tell(page: Page) -> None:
    make_stack(page, STACK, {**settings_here(page), **SETTINGS})
    page.say("The stack")
    page.pulumi(STACK, "up", "--yes", "--skip-preview")
    page.kubectl("get", "cel", "-n", NAMESPACE)
    _pool_that_goes(page)
    _refuse(page)
    _drain(page)
    _discard(page)


def _pool_that_goes(page: Page) -> None:
    page.say("A pool is taken out while tasks wait in it: refused, until they are done")
    page.kubectl("exec", "-n", NAMESPACE, "deployment/sample-app", "--", "python3", "-c", SEND_MAIL)
    _wait("tasks in the pool mail", lambda: _left(page, "mail") > 0)
    page.pulumi(STACK, "config", "rm", "--path", "pools.mail")
    page.pulumi_fails(
        STACK,
        "up",
        "--yes",
        saying=["pool mail would vanish from namespace", "pulumi config set onDestroy discard"],
    )
    page.kubectl("get", "cel", "-n", NAMESPACE)
    page.note("Half a minute later:")
    _wait("an empty pool mail", lambda: _left(page, "mail") == 0)
    page.pulumi(STACK, "up", "--yes", "--skip-preview")
    page.kubectl("get", "cel", "-n", NAMESPACE)


def _refuse(page: Page) -> None:
    page.say("`onDestroy: refuse`: with 5,000 tasks queued nothing is removed")
    _flood(page)
    page.pulumi(STACK, "config", "set", "onDestroy", "refuse")
    page.pulumi_fails(
        STACK,
        "destroy",
        "--yes",
        "--skip-preview",
        saying=["onDestroy refuse: nothing was removed", " queued"],
    )
    page.kubectl("get", "cel,deployments", "-n", NAMESPACE)


def _drain(page: Page) -> None:
    page.say("`onDestroy: drain`: at the deadline nothing is removed; with more time every task is finished")
    page.pulumi(STACK, "config", "set", "onDestroy", "drain")
    page.pulumi(STACK, "config", "set", "drainTimeoutSeconds", "10")
    page.pulumi_fails(
        STACK,
        "destroy",
        "--yes",
        "--skip-preview",
        saying=["onDestroy drain: nothing was removed", " queued"],
    )
    page.pulumi(STACK, "config", "set", "drainTimeoutSeconds", "600")
    page.pulumi(STACK, *DESTROY)
    page.kubectl("get", "namespaces")


def _discard(page: Page) -> None:
    page.say("`onDestroy: discard`: running tasks finish, the queued ones are given up")
    page.pulumi(STACK, "up", "--yes", "--skip-preview")
    _flood(page)
    page.kubectl("get", "cel", "-n", NAMESPACE)
    page.pulumi(STACK, "config", "set", "onDestroy", "discard")
    page.pulumi(STACK, *DESTROY)
    page.kubectl("get", "namespaces")
    page.kubectl("get", "crd")


def _flood(page: Page) -> None:
    """By the sample application's page, as `POST /flood?…`."""
    page.note(f"`POST /flood?{FLOOD}` on the sample application's page.")
    publish(page.cluster, NAMESPACE, FLOOD)
    _wait("tasks in the pool default", lambda: _left(page, "default") > 1000)


def _left(page: Page, pool: str) -> int:
    status = page.cluster.get("celery", pool, f"--namespace={NAMESPACE}").get("status", {})
    figures = [status.get(figure) for figure in ("queued", "unacked", "active")]
    # Unknown is not zero: -1 is neither some nor none.
    return -1 if None in figures else sum(figures)


def _wait(what: str, fact: Callable[[], bool]) -> None:

    wait_until(fact, what, timeout_seconds=120)
