"""The workers of the fake cluster's pods: what they run, what they were told, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from scaler.cluster.objects import Pod
from scaler.pool.crew import node_of
from scaler.workers.answers import Heard, Heartbeat, HeldTasks
from scaler.workers.link import ControlUnavailable
from tests.scaler.fakes import FakeCluster, Killed


@dataclass(slots=True)
class FakeWorkers:
    """Speaks for every pod that runs; a test says who works on what, and who keeps silent."""

    cluster: FakeCluster
    clock: Callable[[], float]
    running: dict[str, set[str]] = field(default_factory=dict)
    """Pod to the ids of its tasks."""
    acknowledged: set[str] = field(default_factory=set)
    """Of those tasks, the ones that are in no broker any more."""
    scheduled: dict[str, list[float]] = field(default_factory=dict)
    """Pod to the ETAs that it hoards."""
    processed: dict[str, int] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    """Pods that consume nothing."""
    dumb: set[str] = field(default_factory=set)
    """Pods that do not answer."""
    silent: set[str] = field(default_factory=set)
    """Pods that send no heartbeats."""
    remote_control: bool = True
    failure: ControlUnavailable | None = None
    since: float | None = 0.0
    told: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    """(`stop` or `resume`, pods), in their order."""
    asked: list[frozenset[str]] = field(default_factory=list)
    kill_at: str | None = None
    """`stop` or `resume`: the call that the process does not live to make."""

    def living(self) -> dict[str, Pod]:
        return {pod.name: pod for pods in self.cluster.pods.values() for pod in pods if pod.running_since}

    def _answering(self, nodes: Collection[str]) -> set[str]:
        if self.failure is not None:
            raise self.failure
        pods = self.living() if self.remote_control else {}
        return {
            pod
            for pod in pods
            if node_of(pod) in nodes and pod not in self.dumb and not pods[pod].terminating
        }

    async def tasks(self, nodes: Collection[str]) -> Mapping[str, HeldTasks]:
        self.asked.append(frozenset(nodes))
        held = {}
        for pod in self._answering(nodes):
            running = frozenset(self.running.get(pod, ()))
            etas = self.scheduled.get(pod, [])
            held[node_of(pod)] = HeldTasks(
                running=running,
                acknowledged=running & self.acknowledged,
                reserved=frozenset(),
                scheduled=len(etas),
                next_due=min(etas, default=None),
            )
        return held

    async def consumed(self, nodes: Collection[str]) -> Mapping[str, frozenset[str]]:
        return {
            node_of(pod): frozenset() if pod in self.stopped else frozenset({_queue(pod)})
            for pod in self._answering(nodes)
        }

    async def stop_consuming(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]:
        pods = self._tell("stop", queues)
        self.stopped |= pods
        return frozenset(map(node_of, pods))

    async def resume(self, queues: Mapping[str, Collection[str]]) -> frozenset[str]:
        pods = self._tell("resume", queues)
        self.stopped -= pods
        return frozenset(map(node_of, pods))

    def _tell(self, what: str, queues: Mapping[str, Collection[str]]) -> set[str]:
        if self.kill_at == what:
            raise Killed
        pods = self._answering(queues)
        self.told.append((what, frozenset(pods)))
        return pods

    def heard(self) -> Heard:
        return Heard(
            since=self.since,
            last={
                node_of(pod): Heartbeat(
                    at=self.clock(),
                    active=len(self.running.get(pod, ())),
                    processed=self.processed.get(pod, 0),
                    offline=False,
                )
                for pod in self.living()
                if pod not in self.silent
            },
        )


def _queue(pod: str) -> str:
    return pod.rpartition("-")[0]
