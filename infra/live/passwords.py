"""Whether a server of the stack has taken a new password up: asked through its pod, read in its log.

It owns the question and the wait. A server's pod has no token and nobody's password leaves it, so the way
in is an annotation, at which the kubelet renews its volumes, and the way out the line that the start script
writes (`infra/components/start/`). `infra.rotation` imports this module inside its methods: it loads
lightkube.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

from lightkube.resources.core_v1 import Pod
from lightkube.types import PatchType

from infra.live import reading
from infra.live.cluster import Cluster, ClusterUnavailable, NotAllowed, NotThere
from infra.rotation import ASKED

IN_FORCE: Final = re.compile(r"^celery-fleet: in force is password (\S+)$", re.MULTILINE)
SAID: Final = re.compile(r"^celery-fleet: .*$", re.MULTILINE)
LOG_LINES: Final = 500
POLL_SECONDS: Final = 1
ASK_AGAIN_SECONDS: Final = 30
LOST_SECONDS: Final = 30
"""How long the API server may be away during a wait."""


class NotTakenUp(Exception):  # noqa: N818  # the fact, not the failure
    """What the server said instead, and what to do."""


class Pods(Protocol):
    """The cluster, as far as the wait asks it."""

    def running(self, namespace: str, server: str) -> list[str]: ...
    def ask(self, namespace: str, pod: str) -> None: ...
    def read_log(self, namespace: str, pod: str) -> str: ...


class Servers(Cluster):
    """The pods of the stack's own servers."""

    def running(self, namespace: str, server: str) -> list[str]:
        with self._asking():
            pods = self._client.list(Pod, namespace=namespace, labels={"app.kubernetes.io/name": server})
            return [reading.name_of(pod) for pod in pods if reading.counts(pod)]

    def ask(self, namespace: str, pod: str) -> None:
        change = {"metadata": {"annotations": {ASKED: datetime.now(UTC).isoformat(timespec="milliseconds")}}}
        # Without this right the kubelet's own rhythm is waited for.
        with suppress(NotAllowed), self._asking():
            self._client.patch(Pod, pod, change, namespace=namespace, patch_type=PatchType.MERGE)

    def read_log(self, namespace: str, pod: str) -> str:
        with self._asking():
            return "\n".join(self._client.log(pod, namespace=namespace, tail_lines=LOG_LINES, newlines=False))


def wait_until_in_force(
    pods: Pods,
    namespace: str,
    server: str,
    mark: str,
    seconds: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once a pod of the server says that the password of this mark is in force. Raises NotTakenUp."""
    began = last_read = now()
    asked: dict[str, float] = {}
    said = "no pod of it runs"
    while True:
        try:
            for pod in pods.running(namespace, server):
                if now() - asked.get(pod, -ASK_AGAIN_SECONDS) >= ASK_AGAIN_SECONDS:
                    asked[pod] = now()
                    pods.ask(namespace, pod)
                log = pods.read_log(namespace, pod)
                if (IN_FORCE.findall(log) or [""])[-1] == mark:
                    return
                said = (SAID.findall(log) or ["its log says nothing of passwords"])[-1]
            last_read = now()
        except NotThere:
            pass  # a pod went between two questions
        except ClusterUnavailable:
            if now() - last_read >= LOST_SECONDS:
                raise
        if now() - began >= seconds:
            raise NotTakenUp(
                f"{server} has not taken its new password up after {seconds:.0f} s: {said}. The old one is "
                f"in force and no client was changed. See `kubectl logs deployment/{server} -n {namespace}`; "
                "`pulumi up` goes on from here"
            )
        sleep(POLL_SECONDS)
