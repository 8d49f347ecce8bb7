"""What the scaler tells about itself: /healthz, /metrics, and one JSON log line where something changed.

It owns the names and meanings of the metrics and the log's fields. Every pool's series come from what the
last tick reported, so a removed object takes its series with it, and a figure that is unknown has none:
0 always means a 0 that was read. No broker URL ever reaches this file.

`scaler.loop` calls it; nothing here decides or reads.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import ClusterFailure, Deployment
from scaler.contract import Policy
from scaler.pool.decision import HOLDS
from scaler.pool.pool import Pool
from scaler.pool.status import Report

READ_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5)


@dataclass(slots=True)
class _Series:
    policy: Policy | None = None
    report: Report | None = None
    deployment: Deployment | None = None
    decisions: Tally[str] = field(default_factory=Tally)


class _PoolMetrics(Collector):
    """The series of all pools, made when they are asked for: a thousand objects cost nothing in between."""

    def __init__(self) -> None:
        self.pools: dict[str, _Series] = {}

    def collect(self) -> Iterator[Metric]:
        length = GaugeMetricFamily(
            "celery_fleet_queue_length", "Messages queued, all priorities.", labels=["pool"]
        )
        unacked = GaugeMetricFamily(
            "celery_fleet_unacked", "Messages delivered and not acknowledged.", labels=["pool"]
        )
        active = GaugeMetricFamily("celery_fleet_active", "Tasks that run.", labels=["pool"])
        not_due = GaugeMetricFamily(
            "celery_fleet_not_due", "Tasks with a time in the future, wherever they wait.", labels=["pool"]
        )
        stranded = GaugeMetricFamily(
            "celery_fleet_stranded", "Messages whose worker is gone.", labels=["pool"]
        )
        capacity = GaugeMetricFamily(
            "celery_fleet_capacity", "Slots of the workers that still take tasks.", labels=["pool"]
        )
        draining = GaugeMetricFamily(
            "celery_fleet_draining", "Workers that take no more tasks and leave.", labels=["pool"]
        )
        replicas = GaugeMetricFamily(
            "celery_fleet_replicas",
            "Replicas: existing pods, what the Deployment asks for, what was decided, and the limits.",
            labels=["pool", "kind"],
        )
        ready = GaugeMetricFamily(
            "celery_fleet_ready", "1 where Ready is True, else 0.", labels=["pool", "reason"]
        )
        decisions = CounterMetricFamily(
            "celery_fleet_decisions", "Ticks by the reason of their decision.", labels=["pool", "reason"]
        )
        holds = CounterMetricFamily(
            "celery_fleet_holds",
            "Ticks that kept the replicas because something was unknown or somebody else decides.",
            labels=["pool", "cause"],
        )
        for name, series in self.pools.items():
            report = series.report
            if report is not None:
                _add(length, [name], report.queued.exact)
                _add(unacked, [name], report.unacked.exact)
                _add(active, [name], report.active)
                _add(not_due, [name], report.not_due.exact)
                _add(stranded, [name], report.stranded)
                _add(capacity, [name], report.capacity)
                _add(draining, [name], len(report.drain.leaving))
                _add(replicas, [name, "existing"], report.replicas)
                ready.add_metric([name, report.ready], float(report.ready == "Watching"))
                if report.decision is not None:
                    _add(replicas, [name, "desired"], report.decision.desired_replicas)
            if series.deployment is not None:
                _add(replicas, [name, "spec"], series.deployment.spec_replicas)
            if series.policy is not None:
                _add(replicas, [name, "min"], series.policy.min_replicas)
                _add(replicas, [name, "max"], series.policy.max_replicas)
            for reason, times in series.decisions.items():
                decisions.add_metric([name, reason], times)
                if reason in HOLDS:
                    holds.add_metric([name, reason], times)
        yield from (length, unacked, active, not_due, stranded, capacity, draining)
        yield from (replicas, ready, decisions, holds)


def _add(family: GaugeMetricFamily, labels: list[str], value: int | None) -> None:
    if value is not None:
        family.add_metric(labels, value)


class Telemetry:
    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._told: dict[str, object] = {}
        self._pools = _PoolMetrics()
        self.registry = CollectorRegistry()
        self.registry.register(self._pools)
        self._broker_seconds = Histogram(
            "celery_fleet_broker_read_seconds",
            "Time of one read of all queues.",
            registry=self.registry,
            buckets=READ_SECONDS_BUCKETS,
        )
        self._broker_failures = Counter(
            "celery_fleet_broker_failures",
            "Reads of the broker that failed, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._requests = Counter(
            "celery_fleet_api_requests",
            "Requests to the Kubernetes API.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._errors = Counter(
            "celery_fleet_errors",
            "Failures by kind; `bug` is one that nobody foresaw.",
            ["kind"],
            registry=self.registry,
        )
        self._good_tick = Gauge(
            "celery_fleet_last_good_tick_timestamp_seconds",
            "When broker and namespace were last read in full.",
            registry=self.registry,
        )
        self._leading = Gauge(
            "celery_fleet_lease_held",
            "1 where this scaler may write, 0 where it only observes.",
            registry=self.registry,
        )

    def judged(self, pool: Pool, report: Report, deployment: Deployment | None) -> None:
        series = self._pools.pools.setdefault(pool.name, _Series())
        series.policy, series.report, series.deployment = pool.policy, report, deployment
        decision = report.decision
        if decision is not None:
            series.decisions[decision.reason] += 1
        desired = decision.desired_replicas if decision else None
        leaving = [victim.pod for victim in report.drain.leaving]
        news = (report.news, desired, deployment.spec_replicas if deployment else None, leaving)
        changed = self._told.get(pool.name) != news
        self._told[pool.name] = news
        tell = self._log.info if changed else self._log.debug
        tell(
            "decided",
            pool=pool.name,
            ready=report.ready,
            reason=decision.reason if decision else None,
            message=decision.message if decision else report.ready_message,
            desired=desired,
            replicas=report.replicas,
            queued=str(report.queued),
            unacked=str(report.unacked),
            active=report.active,
            drain=report.drain.message if report.drain.leaving else None,
        )

    def scaled(self, pool: Pool, before: int, after: int) -> None:
        self._log.info("scaled", pool=pool.name, replicas=before, desired=after)

    def forgot(self, name: str) -> None:
        self._pools.pools.pop(name, None)
        self._told.pop(name, None)
        self._log.info("forgot", pool=name)

    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None:
        self._broker_seconds.observe(seconds)
        failure = backlog if isinstance(backlog, BrokerFailure) else None
        if failure is not None:
            self._broker_failures.labels(failure.reason).inc()
        self._tell_change("broker", "broker read" if failure is None else failure.sentence)

    def failed(self, doing: str, failure: ClusterFailure) -> None:
        self._errors.labels(failure.kind).inc()
        self._log.warning("failed", doing=doing, kind=failure.kind, message=failure.sentence)

    def unheard(self, doing: str, failure: str) -> None:
        self._errors.labels("control").inc()
        self._log.warning("failed", doing=doing, kind="control", message=failure)

    def crashed(self, doing: str, error: Exception) -> None:
        self._errors.labels("bug").inc()
        self._log.error("crashed", doing=doing, exc_info=error)

    def requested(self, verb: str, resource: str, code: str) -> None:
        self._requests.labels(verb, resource, code).inc()

    def ticked(self, at: float, *, good: bool, leading: bool) -> None:
        if good:
            self._good_tick.set(at)
        self._leading.set(leading)
        self._tell_change("lease", "this scaler writes" if leading else "this scaler only observes")

    def _tell_change(self, about: str, message: str) -> None:
        if self._told.get(f"/{about}") != message:
            self._told[f"/{about}"] = message
            self._log.info(about, message=message)


async def serve(telemetry: Telemetry, alive: Callable[[], bool], host: str, port: int) -> web.AppRunner:
    """Answer /healthz and /metrics until the returned runner is cleaned up."""

    async def healthz(_request: web.Request) -> web.Response:
        # The loop's life only: a broker that is away is no reason to restart the scaler.
        turns = alive()
        return web.Response(text="ok\n" if turns else "the loop stands still\n", status=200 if turns else 503)

    async def metrics(_request: web.Request) -> web.Response:
        body = generate_latest(telemetry.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
