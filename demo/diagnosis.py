"""Owns what is printed when something did not come true: what the cluster itself says about it.

A part that cannot be read is said so in its place: a diagnosis never fails on its own, and the rest
of it is still worth reading.
"""

from __future__ import annotations

from demo.cluster import Cluster
from demo.commands import DemoError

LOG_LINES = 20


def diagnosis(cluster: Cluster, namespace: str) -> str:
    """Pods, the Celery objects, events and the ends of all logs of a namespace."""

    def said(*arguments: str) -> str:
        try:
            answer = cluster.kubectl(*arguments, f"--namespace={namespace}")
        except DemoError as trouble:
            answer = f"(not readable: {trouble})"
        return f"--- kubectl {' '.join(arguments)}   [{namespace}]\n{answer.rstrip()}"

    try:
        names = cluster.kubectl("get", "pods", "--output=name", f"--namespace={namespace}").split()
    except DemoError:
        names = []
    return "\n".join(
        [
            said("get", "pods", "--output=wide"),
            said("get", "celery", "--output=yaml"),
            said("get", "events", "--sort-by=.lastTimestamp"),
            *(said("logs", name, "--all-containers", f"--tail={LOG_LINES}") for name in names),
        ]
    )
