"""Tells a stack's ordinary life: up, no change, new limits, a second stack beside it, and away again."""

from __future__ import annotations

from typing import Final

from demo.commands import wait_until
from demo.transcripts.page import Page, make_stack, settings_here

FILE: Final = "pulumi-local.md"
FIRST, SECOND = "local", "second"
STACKS: Final = (FIRST, SECOND)
WORKERS: Final = "default-celery-worker"
HEAD: Final = f"""\
# `pulumi` on one cluster, from the first `up` to the last `destroy`

Written by `python -m demo.transcripts ordinary_life`: what the commands printed, without colours, this
machine's folders and the lines that a resource is being created, refreshed or deleted. Two stacks share the
cluster; `{FIRST}` is the committed one.
"""
APART: Final = {
    **{f"{page}NodePort": "0" for page in ("flower", "scaler", "sampleApp")},
    **{f"{page}ServiceType": "ClusterIP" for page in ("flower", "scaler")},
}
"""Node ports belong to the whole cluster."""


def tell(page: Page) -> None:
    settings = settings_here(page)
    namespace = f"celery-fleet-{FIRST}"
    workers = ("get", "pods", "-n", namespace, "-l", "celeryproject.org/pool=default")
    identities = (
        *workers,
        "-o",
        "custom-columns=NAME:.metadata.name,UID:.metadata.uid",
        "--sort-by=.metadata.name",
    )

    page.say("The first `up`")
    make_stack(page, FIRST, settings)
    page.pulumi(FIRST, "config")
    page.pulumi(FIRST, "up", "--yes")
    page.kubectl("get", "cel", "-n", namespace)

    page.say("Nothing changed: nothing to do, also after the pool was scaled")
    page.pulumi(FIRST, "up", "--yes")
    page.kubectl("scale", "-n", namespace, f"deployment/{WORKERS}", "--replicas=3")
    page.pulumi(FIRST, "up", "--yes")
    page.pulumi(FIRST, "refresh", "--yes")
    page.pulumi(FIRST, "up", "--yes")
    page.kubectl(
        "wait",
        "-n",
        namespace,
        "--for=jsonpath={.spec.replicas}=2",
        f"deployment/{WORKERS}",
        "--timeout=180s",
    )
    page.pulumi(FIRST, "refresh", "--yes", "--skip-preview")
    # A pod that stops is listed until it is gone.
    names = (*workers, "-o", "name")
    wait_until(
        lambda: len(page.cluster.kubectl(*names).split()) == 2, "two workers again", timeout_seconds=60
    )

    page.say("Another limit: two updates, and no pod restarts")
    before = page.kubectl(*identities)
    page.pulumi(FIRST, "config", "set", "maxReplicas", "3")
    page.pulumi(FIRST, "preview", "--diff")
    page.pulumi(FIRST, "up", "--yes", "--skip-preview")
    page.same("the pool's pods", before, page.kubectl(*identities))
    page.kubectl("get", "cel", "-n", namespace)

    page.say("A second stack on the same cluster")
    make_stack(page, SECOND, {**settings, **APART})
    page.pulumi(SECOND, "up", "--yes", "--skip-preview")
    page.kubectl("get", "cel", "--all-namespaces")

    page.say("Each goes by itself; the definition of the `Celery` objects stays")
    page.pulumi(FIRST, "destroy", "--yes", "--skip-preview")
    page.pulumi(SECOND, "up", "--yes")
    page.pulumi(SECOND, "destroy", "--yes", "--skip-preview")
    page.kubectl("get", "namespaces")
    page.kubectl("get", "crd")
