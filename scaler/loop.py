"""One round every few seconds: observe, decide, act, report. The only file that owns a clock.

It owns the order of reads and writes, what happens when one of them fails, and when nothing is written at
all. The broker is read before workers are asked: a task that moves in between is seen twice, not never. It
imports no client: `Broker`, `Cluster`, `Leadership` and `Telemetry` say what it expects.

What a tick has to say about one pool is in `scaler.pool.pool`, its form in `scaler.pool.status`; what it
plans for one is carried out by `scaler.writer` on the cluster and by `scaler.workers.roll_call` among the
workers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment, Kind, Snapshot
from scaler.contract import Mode, Ready
from scaler.pool import status
from scaler.pool.handshake import costs_of
from scaler.pool.lookout import sights_of
from scaler.pool.pool import Pool
from scaler.pool.sight import Questions, Sight
from scaler.workers.answers import Answers
from scaler.workers.roll_call import Control, Ear, Returning, RollCall
from scaler.writer import Journal, Plan, Writer, Writes

FIGURES_SECONDS: Final = 5.0
"""How often an object's figures are refreshed while they change."""
FIGURES_PER_SECOND: Final = 20
"""Refreshes a second over all objects: a thousand busy ones wait longer each."""
ALIVE_SECONDS: Final = 10.0
ALIVE_POLLS: Final = 5
RELEASE_SECONDS: Final = 0.5
FIRST_READ_SECONDS: Final = 15.0


class Broker(Protocol):
    async def read(self, queues: Collection[str], at: float) -> Backlog:
        """What is there now, with what is due by `at`. Raises BrokerFailure."""


class Cluster(Writes, Protocol):
    async def follow(self) -> None: ...
    def snapshot(self) -> Snapshot:
        """Raises ClusterFailure as long as the namespace was not read."""


class Leadership(Protocol):
    """Who may write. `keep` and `release` raise ClusterFailure."""

    def held(self, at: float) -> bool: ...
    async def keep(self, at: float) -> None: ...
    async def release(self, at: float) -> None: ...


class Telemetry(Journal, Protocol):
    """Told of everything, for metrics and the log."""

    def judged(self, pool: Pool, report: status.Report, deployment: Deployment | None) -> None: ...
    def forgot(self, name: str) -> None: ...
    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None: ...
    def unheard(self, doing: str, failure: str) -> None: ...
    def ticked(self, at: float, *, seconds: float, trouble: str | None, leading: bool) -> None:
        """A tick is over; `trouble` is why broker or namespace could not be read in full."""


class Loop:
    def __init__(
        self,
        *,
        broker: Broker,
        control: Control,
        ear: Ear,
        cluster: Cluster,
        lease: Leadership,
        telemetry: Telemetry,
        poll_seconds: float,
        visibility_seconds: float = 3600.0,
        handshake: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._roll_call = RollCall(control, telemetry)
        self._ear = ear
        self._listening_since: float | None = None
        self._visibility_seconds = visibility_seconds
        self._handshake = handshake
        self._cluster = cluster
        self._lease = lease
        self._telemetry = telemetry
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self._writer = Writer(cluster, telemetry, leading_at=self._leading_at)
        self._ticked_at = clock()
        self._led = False

    def alive(self) -> bool:
        """Whether the loop still turns, whatever it finds: what /healthz answers."""
        age = self._clock() - self._ticked_at
        return age < max(ALIVE_SECONDS, ALIVE_POLLS * self._poll_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Turn until `stop` is set, then give the lease back. No exception leaves it."""
        tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(self._keep_lease()),
            asyncio.create_task(self._turn()),
        ]
        await stop.wait()
        # Cancelling in the middle of a tick is one of the kills that law 5 is about.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(ClusterFailure, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._lease.release(self._clock())

    async def _turn(self) -> None:
        while True:
            begin = self._clock()
            read = True
            try:
                await self.tick(begin)
            except ClusterFailure as failure:
                read = failure.kind is not Kind.NOT_READ_YET
                if read:
                    self._telemetry.failed("reading the namespace", failure)
            except Exception as error:  # the loop outlives every mistake in a tick
                self._telemetry.crashed("tick", error)
            self._ticked_at = self._clock()
            poll = self._poll_seconds if read else 0.1
            # Jitter keeps the scalers of many stacks from asking one broker in step.
            wait = poll * random.uniform(0.9, 1) - (self._ticked_at - begin)  # noqa: S311  # no secret
            await asyncio.sleep(max(0.05, wait))

    async def _follow(self) -> None:
        while True:
            try:
                await self._cluster.follow()
            except Exception as error:  # as above
                self._telemetry.crashed("watch", error)
            await asyncio.sleep(1)

    async def _keep_lease(self) -> None:
        while True:
            try:
                await self._lease.keep(self._clock())
            except ClusterFailure as failure:
                self._telemetry.failed("holding the lease", failure)
            except Exception as error:  # as above
                self._telemetry.crashed("lease", error)
            await asyncio.sleep(1)

    async def once(self) -> bool:
        """One tick and no more: whether every object is Ready. Raises ClusterFailure."""
        following = asyncio.create_task(self._follow())
        try:
            give_up_at = self._clock() + FIRST_READ_SECONDS
            while not self._has_read(give_up_at):  # noqa: ASYNC110  # the snapshot is polled, as in tick
                await asyncio.sleep(0.05)
            await self._lease.keep(self._clock())
            try:
                return await self.tick(self._clock())
            finally:
                await self._lease.release(self._clock())
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _has_read(self, give_up_at: float) -> bool:
        try:
            self._cluster.snapshot()
        except ClusterFailure:
            if self._clock() >= give_up_at:
                raise
            return False
        return True

    async def tick(self, at: float) -> bool:
        """One round for every object: whether all are Ready. Raises ClusterFailure where none was read."""
        snapshot = self._cluster.snapshot()
        self._meet(snapshot.celeries)
        backlog = await self._read_backlog(at)
        leading = self._lease.held(at)
        sights = self._sights(snapshot, backlog, at, leading=leading)
        questions = self._questions(sights)
        answers = await self._ask(questions) if leading and isinstance(backlog, Backlog) else {}
        self._ticked_at = self._clock()
        plans, returning = [], []
        for name, sight in sights.items():
            pool = self._pools[name]
            try:
                answered = replace(sight, answers=answers.get(name, Answers()))
                plan = self._plan(pool, snapshot, answered, leading=leading)
                if leading and pool.policy is not None:
                    returning.append(_returning(pool, sight))
            except Exception as error:  # one object must not keep the others from being served
                self._telemetry.crashed(f"judging {pool.name}", error)
                continue
            if plan is not None:
                plans.append(plan)
        self._led = leading
        await asyncio.gather(self._writer.carry_out(plans), self._bring_back(returning, at))
        failure = backlog if isinstance(backlog, BrokerFailure) else snapshot.failure
        trouble = failure.sentence if failure is not None else None
        self._telemetry.ticked(at, seconds=max(0.0, self._clock() - at), trouble=trouble, leading=leading)
        return trouble is None and all(pool.ready is Ready.WATCHING for pool in self._pools.values())

    def _leading_at(self) -> float | None:
        at = self._clock()
        return at if self._lease.held(at) else None

    def _meet(self, celeries: Mapping[str, CeleryObject]) -> None:
        for name in [name for name in self._pools if name not in celeries]:
            del self._pools[name]
            self._telemetry.forgot(name)
        for name, celery in celeries.items():
            pool = self._pools.get(name)
            if pool is None or pool.celery.uid != celery.uid:
                self._pools[name] = Pool(celery, handshake=self._handshake)
            else:
                pool.update(celery)

    async def _read_backlog(self, at: float) -> Backlog | BrokerFailure:
        queues = {queue: None for pool in self._pools.values() if pool.policy for queue in pool.policy.queues}
        begin = self._clock()
        backlog: Backlog | BrokerFailure
        try:
            backlog = await self._broker.read(queues, at)
        except BrokerFailure as failure:
            backlog = failure
        self._telemetry.broker_read(self._clock() - begin, backlog)
        return backlog

    def _sights(
        self, snapshot: Snapshot, backlog: Backlog | BrokerFailure, at: float, *, leading: bool
    ) -> dict[str, Sight]:
        """What is seen of each pool before its workers are asked."""
        heard, read_at = self._ear.heard(), self._clock()
        if leading and (not self._led or heard.since != self._listening_since):
            # A new scaler, or a broker that was away: who was told what may be forgotten.
            self._listening_since = heard.since
            self._roll_call.disturbed(at)
        if not (leading and self._led):
            for pool in self._pools.values():
                # Whoever led until now wrote the status.
                pool.restore()
        return sights_of(
            self._pools,
            snapshot=snapshot,
            backlog=backlog,
            heard=heard,
            at=at,
            read_at=read_at,
            visibility_seconds=self._visibility_seconds,
        )

    def _questions(self, sights: Mapping[str, Sight]) -> dict[str, Questions]:
        """Asked of every pool in every tick, for it also notes what it sees: an outage ends every quiet."""
        questions = {}
        for name, sight in sights.items():
            try:
                asked = self._pools[name].questions(sight)
            except Exception as error:  # as in tick
                self._telemetry.crashed(f"asking for {name}", error)
                continue
            if asked is not None:
                questions[name] = asked
        return questions

    async def _ask(self, questions: Mapping[str, Questions]) -> Mapping[str, Answers]:
        try:
            return await self._roll_call.ask(questions)
        except Exception as error:  # as in tick
            self._telemetry.crashed("asking workers", error)
            return {}

    async def _bring_back(self, returning: Sequence[Returning], at: float) -> None:
        if not self._handshake:
            return
        try:
            back = await self._roll_call.bring_back(returning, at)
        except Exception as error:  # as in tick
            self._telemetry.crashed("taking workers back", error)
            return
        for pool in self._pools.values():
            pool.came_back(back & pool.returning)

    def _plan(self, pool: Pool, snapshot: Snapshot, sight: Sight, *, leading: bool) -> Plan | None:
        """Judge one pool and find what there is to write about it."""
        at, deployment = sight.at, sight.deployment
        report, step = pool.judge(sight)
        pool.ready = report.ready
        # What may be out of date is good enough to report, not to act on.
        acts = leading and snapshot.failure is None and at >= max(pool.scale_retry_at, pool.status_retry_at)
        self._telemetry.judged(pool, report if acts else replace(report, ended=()), deployment)
        replicas = step.replicas if step else None
        steps = deployment is not None and replicas is not None and replicas != deployment.spec_replicas
        costs = costs_of(report.drain, sight.pods)
        if not steps and not costs:
            pool.trouble = None
        if acts:
            pool.returning = report.drain.resume & {victim.pod for victim in report.drain.leaving}
        else:
            steps, costs = False, ()
            report = pool.without_drain(report)
        if not steps:
            report = pool.without_step(report)
            pool.memory = report.memory
        if not leading:
            return None
        later = status.document(report, pool.written, at)
        document = None
        if later != pool.written and at >= pool.status_retry_at:
            rested = at >= pool.written_at + self._figures_seconds
            counts = steps and status.counts_steps(pool.written, later)
            document = later if counts or rested or status.urgent(pool.written, later) else None
        evict = pool.stuck(sight) if acts and not report.shadow else None
        if document is None and not (steps or costs or evict) and report.news == pool.announced:
            return None
        return Plan(
            pool=pool,
            report=report,
            deployment=deployment if steps else None,
            replicas=replicas or 0,
            costs=costs,
            evict=evict,
            document=document,
            at=at,
        )

    @property
    def _figures_seconds(self) -> float:
        return max(FIGURES_SECONDS, len(self._pools) / FIGURES_PER_SECOND)


def _returning(pool: Pool, sight: Sight) -> Returning:
    leaving = {victim.pod for victim in pool.leaving}
    running = {pod.name for pod in sight.pods if pod.running_since is not None and not pod.terminating}
    shadow = pool.policy is not None and pool.policy.mode is Mode.SHADOW
    return Returning(
        queues=pool.policy.queues if pool.policy else (),
        taken_back=pool.returning & running,
        # In shadow a worker that consumes nothing is left to whoever runs the pool.
        staying=frozenset() if shadow else frozenset(running - leaving - pool.returning),
    )
