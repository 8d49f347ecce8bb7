"""Carries out what a tick has planned for one pool, on the cluster: its status first, its event last.

It owns the order (law 5: a scaler killed between two writes doubles no step, and who leaves is on the
status before anything is done about it), when to keep quiet after a failure, and how many events there may
be. It is told what to write by `scaler.loop`, and writes through whatever implements `Writes`, in the scaler
`scaler.cluster.namespace`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment, Kind, Pod
from scaler.contract import Ready
from scaler.pool import status
from scaler.pool.pool import Pool

ANNOUNCE_SECONDS: Final = 10.0
"""Time between two events about one object's reason; a change of its replicas is always told."""
ANNOUNCEMENTS_A_TICK: Final = 20
"""An outage changes the reason of every object at once; the rest is told by later ticks."""
RETRY_SECONDS: Final = 30.0
"""Time between two tries of a write that was refused for good reason: only a person can change that."""
WRITES_AT_ONCE: Final = 8
WRITING_SECONDS: Final = 2.0
"""How long one tick begins writes: where the API server is slow, the rest is left to the next ticks."""


class Writes(Protocol):
    """Each raises ClusterFailure."""

    async def set_replicas(self, deployment: Deployment, replicas: int) -> None: ...
    async def set_deletion_cost(self, pod: Pod, cost: int | None) -> None: ...
    async def evict(self, pod: Pod) -> None: ...
    async def write_status(self, celery: CeleryObject, status: status.Document) -> None: ...
    async def create_event(
        self, celery: CeleryObject, *, warning: bool, reason: str, action: str, note: str, at: float
    ) -> None: ...


class Journal(Protocol):
    def scaled(self, pool: Pool, before: int, after: int) -> None: ...
    def failed(self, doing: str, failure: ClusterFailure) -> None: ...
    def crashed(self, doing: str, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be written about one pool in one tick."""

    pool: Pool
    report: status.Report
    deployment: Deployment | None
    """Given where its replicas are to change, to `replicas`."""
    replicas: int
    costs: tuple[tuple[Pod, int | None], ...] = ()
    """Marks to set on drained pods, and to take from those that stay."""
    evict: Pod | None = None
    """A worker that is stuck."""
    document: status.Document | None
    """The status, where it is to be written."""
    at: float


class Writer:
    def __init__(self, writes: Writes, journal: Journal, *, leading_at: Callable[[], float | None]) -> None:
        self._writes = writes
        self._journal = journal
        self._leading_at = leading_at
        self._at_once = asyncio.Semaphore(WRITES_AT_ONCE)
        self._quiet_until = 0.0
        self._begun_at: float | None = None
        self._unreachable = False
        self._announcements_left = 0

    async def carry_out(self, plans: list[Plan]) -> None:
        """Carry out one tick's plans, side by side; a failure of one does not keep another from its turn."""
        self._unreachable = False
        self._begun_at = self._leading_at()
        self._announcements_left = ANNOUNCEMENTS_A_TICK
        await asyncio.gather(*(self._carry_out(plan) for plan in plans))

    async def _carry_out(self, plan: Plan) -> None:
        pool = plan.pool
        async with self._at_once:
            try:
                await self._write(plan)
            except ClusterFailure as failure:
                self._journal.failed(f"writing {pool.name}", failure)
                self._unreachable = self._unreachable or failure.kind is Kind.UNREACHABLE
                if failure.kind is Kind.SLOW_DOWN:
                    self._quiet_until = plan.at + max(1.0, failure.retry_after_seconds)
            except Exception as error:  # one object must not keep the others from being served
                self._journal.crashed(f"writing {pool.name}", error)

    async def _write(self, plan: Plan) -> None:
        """Status, marks, `/scale`, eviction, event: in this order, so that a kill doubles no step."""
        pool, report = plan.pool, plan.report
        if plan.document is not None:
            if not self._may_write():
                return
            try:
                await self._writes.write_status(pool.celery, plan.document)
            except ClusterFailure as failure:
                if failure.kind in (Kind.FORBIDDEN, Kind.INVALID):
                    pool.status_retry_at = plan.at + RETRY_SECONDS
                raise
            pool.written, pool.written_at = plan.document, plan.at
        pool.memory, pool.leaving = report.memory, report.drain.leaving
        try:
            await self._act(plan)
        except ClusterFailure as failure:
            if failure.kind is Kind.FORBIDDEN:
                pool.trouble, pool.scale_retry_at = failure, plan.at + RETRY_SECONDS
            raise
        await self._announce(plan)

    async def _act(self, plan: Plan) -> None:
        pool = plan.pool
        for pod, cost in plan.costs:
            if self._may_write():
                await self._mark(plan, pod, cost)
        if plan.deployment is not None and self._may_write():
            await self._scale(plan, plan.deployment)
            pool.last_scale_at = plan.at
            self._journal.scaled(pool, plan.deployment.spec_replicas, plan.replicas)
        if plan.costs or plan.deployment is not None:
            pool.trouble = None
        if plan.evict is not None and self._may_write():
            await self._evict(plan, plan.evict)

    async def _scale(self, plan: Plan, deployment: Deployment) -> None:
        if plan.replicas < deployment.spec_replicas:
            plan.pool.let_go.lower(plan.at)
        try:
            await self._writes.set_replicas(deployment, plan.replicas)
        except ClusterFailure as failure:
            # Without an answer it may have been done.
            if failure.kind is not Kind.UNREACHABLE:
                plan.pool.let_go.refused()
            raise

    async def _mark(self, plan: Plan, pod: Pod, cost: int | None) -> None:
        try:
            await self._writes.set_deletion_cost(pod, cost)
        except ClusterFailure as failure:
            # Gone meanwhile, or another pod of that name: the watch will tell.
            if failure.kind not in (Kind.NOT_FOUND, Kind.CONFLICT):
                raise
        finally:
            # Without an answer it may have been written.
            plan.pool.let_go.wrote_mark(self._leading_at() or plan.at)

    async def _evict(self, plan: Plan, pod: Pod) -> None:
        # Counted as done whatever comes of it: a budget that forbids it now may do so for long.
        plan.pool.evicted_at = plan.at
        try:
            await self._writes.evict(pod)
        except ClusterFailure as failure:
            if failure.kind is Kind.FORBIDDEN:
                raise
            self._journal.failed(f"evicting {pod.name}", failure)
            return
        note = f"{pod.name} took no task for minutes though there were some: evicted"
        await self._writes.create_event(
            plan.pool.celery, warning=True, reason="WorkerStuck", action="Evict", note=note, at=plan.at
        )

    def _may_write(self) -> bool:
        """Asked before each write: a process that was paused may have lost the lease meanwhile."""
        at, begun_at = self._leading_at(), self._begun_at
        if at is None or begun_at is None or self._unreachable:
            return False
        return self._quiet_until <= at < begun_at + WRITING_SECONDS

    async def _announce(self, plan: Plan) -> None:
        pool, report, decision = plan.pool, plan.report, plan.report.decision
        if plan.deployment is None:
            due = report.news != pool.announced and plan.at >= pool.announced_at + ANNOUNCE_SECONDS
            if not due or self._announcements_left <= 0:
                return
            self._announcements_left -= 1
        if not self._may_write():
            return
        troubled = report.ready is not Ready.WATCHING and report.news[0] != pool.announced[0]
        pool.announced, pool.announced_at = report.news, plan.at
        if decision is None or (troubled and plan.deployment is None):
            reason, note, action = report.ready.value, report.ready_message, "Observe"
        else:
            reason, note, action = decision.reason.value, decision.message, "Observe"
        if plan.deployment is not None and decision is not None:
            action = "Scale"
            note = f"{plan.deployment.spec_replicas} to {plan.replicas} replicas: {note}"
        await self._writes.create_event(
            pool.celery, warning=troubled, reason=reason, action=action, note=note, at=plan.at
        )
