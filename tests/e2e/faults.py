"""Owns what is done to a stack beside its load: a scaler killed, a worker that turns deaf, a handshake off.

Each is done as somebody else would do it: the kernel, a person, another program. When, and what must come of
it, is said in `tests.e2e.scenes`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

from demo.rendered import Manifest
from scaler.contract import SCALER_NAME, Env
from tests.e2e.course import Course, Step
from tests.e2e.stack import Stack, with_ledger

QUEUE: Final = "celery"


class Killer:
    """Kills the scaler's process as the kernel would, each time another step has been seen."""

    PAUSE_SECONDS: Final = 8
    """For the next scaler to be at work before it is killed."""

    def __init__(self, stack: Stack, *, each: int) -> None:
        self._stack = stack
        self._each = each
        self._next_at = 0.0
        self.kills: Counter[Step] = Counter()

    def look(self, course: Course, seen: int) -> int:
        """Returns how many moments have been looked at."""
        known = len(course.moments)
        for step in course.steps(since=seen):
            if self.kills[step] < self._each and time.monotonic() >= self._next_at:
                self._kill()
                self.kills[step] += 1
        return known

    def _kill(self) -> None:
        for pod in self._stack.scaler_pods():
            for process in processes_with(Env.POD_NAME, pod):
                os.kill(process, signal.SIGKILL)
            # Else the kubelet waits longer before each new start of the same pod's container.
            self._stack.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
        self._stack.kubectl("rollout", "status", f"deployment/{SCALER_NAME}", "--timeout=60s", seconds=70)
        self._next_at = time.monotonic() + self.PAUSE_SECONDS


def processes_with(variable: str, pod: str) -> list[int]:
    """On this machine, which is devcluster's node: a process cannot kill the first one of its own pod.

    The oldest comes first, from which the others were forked. By their numbers they cannot be told: these
    begin anew at 32,768 or so.
    """
    mark = f"{variable}={pod}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((_started(process), int(process.name)))
        except OSError:
            continue  # it has ended
    return [number for _, number in sorted(found)]


def _started(process: Path) -> int:
    """In clock ticks since the machine's start: proc_pid_stat(5), field 22; the second may hold blanks."""
    return int((process / "stat").read_text().rpartition(")")[2].split()[19])


def consumed(stack: Stack) -> dict[str, bool]:
    """Asked of the workers themselves, as a person would."""
    ask = (
        "import json; from sample_app.tasks import app; "
        "print(json.dumps(app.control.inspect(timeout=5).active_queues() or {}))"
    )
    said = json.loads(stack.kubectl("exec", "outside", "--", "python3", "-c", ask))
    pods = stack.worker_pods()
    return {pod: QUEUE in {queue["name"] for queue in said.get(f"worker@{pod}", ())} for pod in sorted(pods)}


def silence(stack: Stack, pod: str) -> None:
    """By hand, in one of the ways in which workers are seen to be alive and to take nothing."""
    tell = (
        "from sample_app.tasks import app; "
        f"print(app.control.cancel_consumer('{QUEUE}', destination=['worker@{pod}'], reply=True, timeout=10))"
    )
    said = stack.kubectl("exec", "outside", "--", "python3", "-c", tell)
    assert "no longer consuming" in said, said


def without_handshake(manifest: Manifest) -> Manifest:
    if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == SCALER_NAME:
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["env"].append({"name": Env.HANDSHAKE.value, "value": "off"})
    return with_ledger(manifest)
