"""Owns which Kubernetes the demo uses, how it speaks to it, and how images come to its node.

The context that DEMO_CONTEXT names, else kind where Docker and its node image are there, else
devcluster. It refuses to pick up the kubeconfig's current context: a demo floods and removes
things, and that must not happen on a cluster that nobody named.
The kind path is not tested by this project's own suite, whose machines have no kind.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.commands import DemoError, cache, run, say

KIND_NAME = "celery-fleet"
KIND_NODE_IMAGE = "kindest/node"
DEVCLUSTER = (sys.executable, "-m", "tests.devcluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    maker: str
    """Who made it: `devcluster`, `kind`, or `you` for the context of DEMO_CONTEXT."""
    kubeconfig: Path
    context: str

    @property
    def settings(self) -> dict[str, str]:
        """Of a stack that Pulumi deploys here."""
        return {"kubernetes:context": self.context, "kubernetes:kubeconfig": str(self.kubeconfig)}

    def kubectl_words(self) -> list[str]:
        """`kubectl` with the options that mean this cluster; also what a person can type."""
        return [_kubectl(), f"--kubeconfig={self.kubeconfig}", f"--context={self.context}"]

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        return run([*self.kubectl_words(), *arguments], stdin=stdin, timeout_seconds=timeout_seconds)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def load(self, images: Sequence[str]) -> None:
        """Images of this machine become images of the node."""
        match self.maker:
            case "devcluster":
                run([*DEVCLUSTER, "load", *images], timeout_seconds=600)
            case "kind":
                run(["kind", "load", "docker-image", *images, "--name", KIND_NAME], timeout_seconds=600)
            case _:
                raise DemoError(
                    f"How images reach the nodes of {self.context} is not known here. Push them to a "
                    "registry that it reaches: make images REGISTRY=… PUSH=1, then DEMO_REGISTRY=… make demo"
                )


def find_or_make() -> Cluster:
    named = _named()
    if named is not None:
        say(f"Cluster: the context {named.context}, named by DEMO_CONTEXT.")
        return named
    if _kind_is_possible():
        say("Cluster: kind (this path is untested here), about 1 min.")
        kubeconfig = _kind_kubeconfig()
        if KIND_NAME not in run(["kind", "get", "clusters"], timeout_seconds=30).split():
            create = ["kind", "create", "cluster", "--name", KIND_NAME, "--wait", "120s"]
            run([*create, "--kubeconfig", kubeconfig], timeout_seconds=300)
        return Cluster(maker="kind", kubeconfig=kubeconfig, context=f"kind-{KIND_NAME}")
    say("Cluster: devcluster, a single node on this machine: 10 s, and 8 min the first time ever.")
    # Its own lines about what it builds go to the terminal as they come.
    run([*DEVCLUSTER, "up"], timeout_seconds=3600, shows_errors=True)
    return _devcluster()


def find() -> Cluster | None:
    """The cluster that `find_or_make` would use, if it is there."""
    named = _named()
    if named is not None:
        return named
    if _kind_is_possible() and KIND_NAME in run(["kind", "get", "clusters"], timeout_seconds=30).split():
        return Cluster(maker="kind", kubeconfig=_kind_kubeconfig(), context=f"kind-{KIND_NAME}")
    try:
        run([*DEVCLUSTER, "status"], timeout_seconds=60)
    except DemoError:
        return None
    return _devcluster()


def remove(cluster: Cluster) -> None:
    match cluster.maker:
        case "devcluster":
            run([*DEVCLUSTER, "down"], timeout_seconds=300, shows_errors=True)
        case "kind":
            run(["kind", "delete", "cluster", "--name", KIND_NAME], timeout_seconds=120)
        case _:
            say(f"The cluster of {cluster.context} is yours and stays, with the Celery objects' definition.")


def _named() -> Cluster | None:
    context = os.environ.get("DEMO_CONTEXT")
    if not context:
        return None
    path = Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
    if not path.is_file():
        raise DemoError(
            f"DEMO_CONTEXT names {context}, and {path} is no file: export KUBECONFIG=… (one path)"
        )
    return Cluster(maker="you", kubeconfig=path, context=context)


def _devcluster() -> Cluster:
    kubeconfig = Path(run([*DEVCLUSTER, "kubeconfig"], timeout_seconds=60).strip())
    context = run(
        [_kubectl(), f"--kubeconfig={kubeconfig}", "config", "current-context"], timeout_seconds=30
    ).strip()
    return Cluster(maker="devcluster", kubeconfig=kubeconfig, context=context)


def _kind_kubeconfig() -> Path:
    return cache() / "kind-kubeconfig"


def _kind_is_possible() -> bool:
    if shutil.which("kind") is None or shutil.which("docker") is None:
        return False
    try:
        listed = run(["docker", "image", "ls", "--quiet", KIND_NODE_IMAGE], timeout_seconds=30)
    except DemoError:
        return False  # no engine behind the program
    return bool(listed.strip())


def _kubectl() -> str:
    # devcluster builds one; a machine whose cluster is elsewhere has its own.
    built = cache() / "bin" / "kubectl"
    if built.exists():
        return str(built)
    found = shutil.which("kubectl")
    if found is None:
        raise DemoError("kubectl is missing: https://kubernetes.io/docs/tasks/tools/")
    return found
