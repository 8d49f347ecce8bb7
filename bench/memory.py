"""Owns the memory of a program in its pod, as the kernel counts it: the resident set of its first process."""

from __future__ import annotations

import re

from demo.cluster import Cluster


def resident_megabytes(cluster: Cluster, namespace: str, deployment: str) -> float:
    """nan where the kernel does not say. Raises DemoError where the pod cannot be asked."""
    words = ("exec", f"--namespace={namespace}", f"deployment/{deployment}", "--")
    status = cluster.kubectl(*words, "cat", "/proc/1/status")
    return megabytes_in(status)


def megabytes_in(status: str) -> float:
    """From the text of a process' /proc/PID/status."""
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else float("nan")
