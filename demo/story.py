"""Owns the order of `make demo` and `make down`: cluster, images, stack, flood, and away again.

What was made is left running by `up`. A step that does not come true ends it with the cluster's own
words about why. What a flood has to do is `flood`'s matter.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import yaml

from demo import cluster as clusters
from demo import engine, images, rendered
from demo.cluster import Cluster
from demo.commands import DemoError, say
from demo.diagnosis import diagnosis
from demo.environment import ROOT
from demo.flood import flood, only_pool, wait_until_idle
from demo.screen import Screen
from demo.sight import look
from demo.timeline import timeline
from scaler.contract import SCALER_NAME

NAMESPACE = "celery-fleet-local"
TASKS, BATCHES = 10_000, 3
READY_SECONDS = 120
NOTHING_REMOVED = "nothing was removed"
"""How `pulumi destroy` says that `onDestroy` kept the stack (`infra.live.departure`)."""


def up() -> None:
    began = time.monotonic()
    cluster = clusters.find_or_make()
    built = images.build_and_load(cluster, os.environ.get("DEMO_REGISTRY", ""))
    try:
        _deploy(cluster, built)
        _flood(cluster)
    except DemoError as trouble:
        raise DemoError(f"{trouble}\n{diagnosis(cluster, NAMESPACE)}") from trouble
    say(f"Done in {time.monotonic() - began:.0f} s. It is left running; `make down` removes it.\n")
    say("\n".join(ways_in(cluster)))


def down() -> None:
    cluster = clusters.find()
    if cluster is None:
        say("There is no cluster of a demo.")
        return
    stack = engine.find()
    try:
        if stack is not None and stack.has_stack():
            say("Removing the stack `local` with pulumi destroy: about 45 s once no task is left.")
            policy = os.environ.get("DEMO_ON_DESTROY")
            if policy:
                stack.set("onDestroy", policy)
            stack.destroy(*(["--run-program"] if policy else []))
        else:
            say("Removing the stack `local` with its namespace: about 45 s once no task is left.")
            if os.environ.get("DEMO_ON_DESTROY") != "discard":
                rendered.drain(cluster, NAMESPACE)
            rendered.remove(cluster, NAMESPACE)
    except DemoError as trouble:
        kept = isinstance(trouble, rendered.TasksLeft) or NOTHING_REMOVED in str(trouble)
        if kept:
            raise DemoError(f"{trouble}\nTo give them up: DEMO_ON_DESTROY=discard make down") from trouble
        if cluster.maker == "you":
            raise
        say(f"{trouble}\nThe cluster goes as a whole, and the stack with it.")
        engine.forget()
    clusters.remove(cluster)


def watch() -> None:
    """Show the fleet until somebody presses Ctrl-C."""
    cluster = clusters.find()
    if cluster is None:
        raise DemoError("there is no cluster of a demo: `make demo` makes one")
    pool = only_pool(cluster, NAMESPACE)
    screen = Screen(pool.most)
    began = time.monotonic()
    try:
        while True:
            screen.show(time.monotonic() - began, look(cluster, NAMESPACE, pool.name))
            time.sleep(1)
    except KeyboardInterrupt:
        screen.end()


def ways_in(cluster: Cluster) -> list[str]:
    """What a person opens and types next."""
    here = f"--namespace={NAMESPACE}"
    address = _node(cluster)
    pages = {SCALER_NAME: "see why: the page", "flower": "Flower", "sample-app": "the sample application"}
    ports = {
        service["metadata"]["name"]: service["spec"]["ports"][0].get("nodePort")
        for service in cluster.get("services", here)["items"]
    }
    lines = [f"{page:<24} http://{address}:{ports[name]}/" for name, page in pages.items() if ports.get(name)]
    program, *_ = cluster.kubectl_words()
    # Only devcluster's own kubeconfig has one context, and it is the current one.
    context = "" if cluster.maker == "devcluster" else f"--context={cluster.context} "
    login = '-o go-template=\'{{index .data "basic-auth" | base64decode}}{{"\\n"}}\''
    return [
        *lines,
        "",
        f"export KUBECONFIG={cluster.kubeconfig} PATH={Path(program).parent}:$PATH",
        f"kubectl {context}get cel {here} --watch      # queue, replicas, limits",
        f"kubectl {context}describe cel {here}         # the decision, with its numbers",
        f"kubectl {context}get secret flower-auth {here} {login}   # Flower's login",
        ".venv/bin/python -m demo watch      # the picture above, again",
    ]


def _node(cluster: Cluster) -> str:
    """The address at which the node's ports are reached."""
    node = cluster.get("nodes")["items"][0]
    found = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    return str(found)


def flower_url(cluster: Cluster) -> str:
    """Where Flower will be: known before there is one, for the stack's settings fix its node port."""
    stack = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{engine.STACK}.yaml").read_text())
    return f"http://{_node(cluster)}:{stack['config']['celery-fleet:flowerNodePort']}/"


def _deploy(cluster: Cluster, built: images.Built) -> None:
    settings = {"flowerUrl": flower_url(cluster), **built.settings}
    # DEMO_ENGINE=none shows the other way on a machine that has the CLI.
    stack = None if os.environ.get("DEMO_ENGINE") == "none" else engine.find_or_install()
    if stack is not None:
        say("Deploying the stack `local` with pulumi up: about 30 s.")
        say(f"Resources: {stack.up({**settings, **cluster.settings})}.")
    else:
        say("Deploying the stack `local` as rendered manifests with kubectl apply: about 20 s.")
        rendered.apply(cluster, engine.STACK, settings)
    wait = ("wait", f"--namespace={NAMESPACE}", f"--timeout={READY_SECONDS}s", "--all")
    patience = READY_SECONDS + 10
    cluster.kubectl(*wait, "--for=condition=Available", "deployment", timeout_seconds=patience)
    cluster.kubectl(*wait, "--for=condition=Ready", "celery", timeout_seconds=patience)


def _flood(cluster: Cluster) -> None:
    pool = only_pool(cluster, NAMESPACE)
    wait_until_idle(cluster, pool)
    say(f"The sample application publishes {BATCHES} x {TASKS:,} tasks for {pool.least} workers.\n")
    course = flood(cluster, pool, Screen(pool.most), tasks=TASKS, batches=BATCHES)
    say(f"\n{timeline(course.looks)}")
    say(
        f"\n{course.published:,} tasks published in {course.published_seconds:.0f} s; workers "
        f"{pool.least} -> {pool.most} after {course.out:.0f} s, queue empty after {course.empty:.0f} s, "
        f"back at {pool.least} after {course.back:.0f} s."
    )
