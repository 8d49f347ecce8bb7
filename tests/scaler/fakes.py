"""A broker, a cluster, a lease and a telemetry that the loop's tests steer: small classes, no mocks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scaler.broker.backlog import Backlog, BrokerFailure, Delivery, Unacked
from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment, Kind, Pod, Snapshot
from scaler.contract import InvalidSpec, Policy, Ready, policy_of
from scaler.pool.count import Count
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from tests.scaler.samples import AT, spec


class Killed(BaseException):
    """The process ends here: nothing after this line runs."""


@dataclass(slots=True)
class FakeBroker:
    """Queue lengths and unacknowledged messages that a test sets; or a failure."""

    lengths: dict[str, int | Count] = field(default_factory=dict)
    later: dict[str, int] = field(default_factory=dict)
    """Of the lengths, what is not due."""
    unacked: Unacked = field(default_factory=Unacked)
    deliveries: list[Delivery] = field(default_factory=list)
    next_due: dict[str, float] = field(default_factory=dict)
    taken_at: dict[str, list[float]] = field(default_factory=dict)
    failure: BrokerFailure | None = None
    key_failures: dict[str, BrokerFailure] = field(default_factory=dict)

    async def read(self, queues: Collection[str], at: float) -> Backlog:
        if self.failure is not None:
            raise self.failure
        found = {queue: self.lengths.get(queue, 0) for queue in queues}
        return Backlog(
            at=at,
            lengths={
                queue: Count.exactly(length) if isinstance(length, int) else length
                for queue, length in found.items()
            },
            later={queue: count for queue, count in self.later.items() if queue in queues},
            unacked=self.unacked,
            deliveries=tuple(self.deliveries),
            next_due={queue: eta for queue, eta in self.next_due.items() if eta > at},
            taken_at=self.taken_at,
            failures=self.key_failures,
        )

    def goes_away(self) -> None:
        self.failure = BrokerFailure(Ready.BROKER_UNREACHABLE, "Redis at redis:6379/0 cannot be reached")

    def comes_back(self) -> None:
        self.failure = None


@dataclass(slots=True)
class FakeCluster:
    """An API server in memory: stores statuses, checks `/scale` writes, remembers every write."""

    celeries: dict[str, CeleryObject] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    """By Deployment, as its ReplicaSet keeps them."""
    removed: list[str] = field(default_factory=list)
    """Pods that the ReplicaSet took, in their order."""
    autoscalers: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: list[tuple[str, str, Any]] = field(default_factory=list)
    """(`status`, `mark`, `scale`, `evict` or `event`, object, what was written), in their order."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    failure: ClusterFailure | None = None
    """Of the watches, as the snapshot tells it."""
    unread: ClusterFailure | None = None
    refuse: dict[str, ClusterFailure] = field(default_factory=dict)
    """Kind of write, or `kind/name`, to the failure that it meets."""
    kill_at: int | None = None
    """Number of the write that the process does not live to make; negative: to see made."""
    lag: int = 0
    """Looks at the namespace by which the ReplicaSet's controller is behind, in replicas and pods alike."""
    _past: dict[str, list[tuple[int, dict[str, Pod]]]] = field(default_factory=dict)

    def add(
        self, name: str = "sums", *, replicas: int = 2, queue: str | None = None, **target: Any
    ) -> CeleryObject:
        """One pool with its Deployment; keywords go to its scaleTargetRef."""
        wanted = spec(**target)
        wanted["common"]["appName"] = name
        wanted["workerSpec"]["queues"] = queue or name
        self.deployments[f"{name}-celery-worker"] = Deployment(
            name=f"{name}-celery-worker",
            uid=f"deployment-{name}",
            resource_version=1,
            spec_replicas=replicas,
            replicas=replicas,
            foreign_owner=None,
            ready_replicas=replicas,
        )
        self.celeries[name] = CeleryObject(
            name=name,
            uid=f"celery-{name}",
            generation=1,
            policy=policy_of(wanted),
            invalid=None,
            stored_status=self.statuses.get(name, {}),
            settings=f"pools.{name}",
        )
        return self.celeries[name]

    def edit(self, name: str = "sums", **target: Any) -> None:
        """A new generation of the object's spec, valid or not."""
        was = self.celeries[name]
        policy: Policy | None
        try:
            policy, invalid = policy_of(spec(**target)), None
        except InvalidSpec as error:
            policy, invalid = None, str(error)
        if policy is not None and was.policy is not None:
            policy = replace(policy, deployment=was.policy.deployment, queues=was.policy.queues)
        self.celeries[name] = replace(was, generation=was.generation + 1, policy=policy, invalid=invalid)

    def replicas(self, name: str = "sums") -> int:
        return self.deployments[f"{name}-celery-worker"].spec_replicas

    def condition(self, kind: str, name: str = "sums") -> tuple[str, str]:
        """(status, reason) as stored."""
        found = next(item for item in self.statuses[name]["conditions"] if item["type"] == kind)
        return found["status"], found["reason"]

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.writes]

    async def follow(self) -> None:
        await asyncio.Event().wait()

    def snapshot(self) -> Snapshot:
        if self.unread is not None:
            raise self.unread
        for deployment in self.deployments.values():
            self.reconcile(deployment)
        for name, celery in self.celeries.items():
            self.celeries[name] = replace(celery, stored_status=self.statuses.get(name, {}))
        return Snapshot(
            celeries=dict(self.celeries),
            deployments={name: self._as_seen(found) for name, found in self.deployments.items()},
            autoscalers=self.autoscalers,
            pods={name: tuple(pods) for name, pods in self.pods.items()},
            failure=self.failure,
        )

    def _as_seen(self, deployment: Deployment) -> Deployment:
        """New replicas are a new generation, and look like a roll-out until the controllers have seen it."""
        unseen = len({replicas for replicas, _ in self._past[deployment.name]}) > 1
        return replace(deployment, rolling_out=deployment.rolling_out or unseen)

    def reconcile(self, deployment: Deployment) -> None:
        """What the ReplicaSet controller does: pods up to the replicas, and its own choice of victims."""
        pods = self.pods.setdefault(deployment.name, [])
        past = self._past.setdefault(deployment.name, [])
        past.append((deployment.spec_replicas, {pod.name: pod for pod in pods}))
        # It never goes back to what it saw before.
        del past[: -1 - self.lag]
        wanted, known = past[0]
        while len(pods) < wanted:
            number = next(self._numbers)
            pods.append(
                Pod(
                    name=f"{deployment.name.removesuffix('-celery-worker')}-{number}",
                    uid=f"pod-{number}",
                    deployment=deployment.name,
                    replica_set=f"{deployment.name}-1",
                    created_at=AT - 1000 + number,
                    running_since=AT - 1000 + number,
                    assigned=True,
                    ready=True,
                    terminating=False,
                    deletion_cost=0,
                )
            )

        def order(pod: Pod) -> tuple[bool, bool, int, float]:
            seen = known.get(pod.name, pod)
            return (seen.assigned, seen.ready, seen.deletion_cost, -pod.created_at)

        for pod in sorted(pods, key=order)[: len(pods) - wanted]:
            pods.remove(pod)
            self.removed.append(pod.name)

    def change(self, name: str, **facts: Any) -> None:
        """Change what is seen of a pod."""
        for pods in self.pods.values():
            for index, pod in enumerate(pods):
                if pod.name == name:
                    pods[index] = replace(pod, **facts)

    async def set_deletion_cost(self, pod: Pod, cost: int | None) -> None:
        with self._write("mark", pod.name, cost):
            self.change(pod.name, deletion_cost=cost or 0)

    async def evict(self, pod: Pod) -> None:
        with self._write("evict", pod.name, None):
            self.pods[pod.deployment] = [each for each in self.pods[pod.deployment] if each.uid != pod.uid]

    async def set_replicas(self, deployment: Deployment, replicas: int) -> None:
        with self._write("scale", deployment.name, replicas):
            now = self.deployments[deployment.name]
            if now.spec_replicas != deployment.spec_replicas:
                raise ClusterFailure(Kind.CONFLICT, f"{deployment.name} changed")
            self.deployments[deployment.name] = replace(
                now, spec_replicas=replicas, replicas=replicas, foreign_owner=None, ready_replicas=replicas
            )

    async def write_status(self, celery: CeleryObject, status: Mapping[str, object]) -> None:
        with self._write("status", celery.name, dict(status)):
            self.statuses[celery.name] = dict(status)

    async def create_event(
        self, celery: CeleryObject, *, warning: bool, reason: str, action: str, note: str, at: float
    ) -> None:
        assert at >= AT
        with self._write("event", celery.name, (reason, action, warning, note)):
            pass

    def _write(self, kind: str, name: str, what: Any) -> _Write:
        failure = self.refuse.get(kind) or self.refuse.get(f"{kind}/{name}")
        if failure is not None:
            raise failure
        return _Write(self, (kind, name, what))


class _Write:
    def __init__(self, cluster: FakeCluster, record: tuple[str, str, Any]) -> None:
        self._cluster, self._record = cluster, record

    def __enter__(self) -> None:
        if self._cluster.kill_at == len(self._cluster.writes):
            raise Killed

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._cluster.writes.append(self._record)
            if self._cluster.kill_at == -len(self._cluster.writes):
                raise Killed


@dataclass(slots=True)
class FakeLease:
    leading: bool = True
    released: bool = False
    keeps: int = 0

    def held(self, at: float) -> bool:
        return self.leading and at >= AT

    async def keep(self, at: float) -> None:
        assert at >= AT
        self.keeps += 1

    async def release(self, at: float) -> None:
        assert at >= AT
        self.released = True


@dataclass(slots=True)
class FakeTelemetry:
    reports: dict[str, Report] = field(default_factory=dict)
    failures: list[ClusterFailure] = field(default_factory=list)
    crashes: list[Exception] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)

    def judged(self, pool: Pool, report: Report, deployment: Deployment | None) -> None:
        assert deployment is None or pool.policy is not None
        self.reports[pool.name] = report

    def scaled(self, pool: Pool, before: int, after: int) -> None:
        assert before != after, pool.name

    def unheard(self, doing: str, failure: str) -> None:
        assert doing
        assert failure

    def forgot(self, name: str) -> None:
        del self.reports[name]

    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None:
        assert seconds >= 0, backlog

    def failed(self, doing: str, failure: ClusterFailure) -> None:
        assert doing
        self.failures.append(failure)

    def crashed(self, doing: str, error: Exception) -> None:
        assert doing
        self.crashes.append(error)

    def ticked(self, at: float, *, seconds: float, trouble: str | None, leading: bool) -> None:
        assert at >= AT, leading
        assert seconds >= 0
        self.good.append(trouble is None)
