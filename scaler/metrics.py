"""What /metrics tells: the names, meanings and labels of all series.

It owns them and nothing else. Where celery-exporter has a metric of the same meaning its name is used, with
its label `queue_name`; everything else is called `celery_fleet_...`. Every pool's series come from what the
last tick reported, so a removed object takes its series with it, and a figure that is unknown has none:
0 always means a 0 that was read.

`scaler.telemetry` feeds it, `scaler.web.server` answers with it; docs/metrics.md is written from it by
`python -m demo.metrics_page`, the dashboard and the alerts in dashboards/ are checked against it.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import Deployment
from scaler.contract import Policy
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import HOLDS
from scaler.pool.drain import Outcome
from scaler.pool.pool import Pool
from scaler.pool.state import state_of
from scaler.pool.status import Report

READ_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5)
TICK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
DRAIN_SECONDS: Final = (2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Further labels after the pool's, and the value; None is unknown and makes no series."""


@dataclass(slots=True)
class Series:
    """What is known of one pool."""

    policy: Policy | None = None
    report: Report | None = None
    deployment: Deployment | None = None
    lengths: Mapping[str, Count] = field(default_factory=dict)
    decisions: Tally[str] = field(default_factory=Tally)
    scalings: Tally[str] = field(default_factory=lambda: Tally({"up": 0, "down": 0}))
    drains: Tally[str] = field(default_factory=lambda: Tally(dict.fromkeys(Outcome, 0)))
    """From 0 on, since `increase` does not see the step by which a series begins."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with a series for each pool, or several."""

    name: str
    meaning: str
    values: Callable[[Series], Values]
    labels: tuple[str, ...] = ()
    """Besides `pool`."""
    counts: bool = False
    """A counter: it only grows, and begins at 0 with the scaler's process."""


def _of_report(figure: Callable[[Report], float | None]) -> Callable[[Series], Values]:
    return lambda series: [((), figure(series.report))] if series.report is not None else ()


def _of_deployment(figure: Callable[[Deployment], float | None]) -> Callable[[Series], Values]:
    return lambda series: [((), figure(series.deployment))] if series.deployment is not None else ()


def _of_policy(figure: Callable[[Policy], float | None]) -> Callable[[Series], Values]:
    return lambda series: [((), figure(series.policy))] if series.policy is not None else ()


def _of_tally(tally: Callable[[Series], Tally[str]]) -> Callable[[Series], Values]:
    return lambda series: [((word,), times) for word, times in tally(series).items()]


def _of_queues(figure: Callable[[Series, str], float | None]) -> Callable[[Series], Values]:
    return lambda series: [
        ((queue,), figure(series, queue)) for queue in (series.policy.queues if series.policy else ())
    ]


def _capacity(series: Series) -> int | None:
    return series.report.capacity if series.report is not None else None


def _workers(series: Series) -> int | None:
    capacity = _capacity(series)
    return None if capacity is None or series.policy is None else capacity // series.policy.concurrency


def _demand(series: Series) -> Values:
    demand = series.report.demand if series.report is not None else UNKNOWN
    yield ("at_least",), None if demand == UNKNOWN else demand.low
    yield ("at_most",), demand.high


def _ready(series: Series) -> Values:
    if series.report is not None:
        yield (series.report.ready,), float(series.report.ready == "Watching")


def _info(series: Series) -> Values:
    policy = series.policy
    if policy is not None:
        yield (policy.deployment, policy.mode, str(policy.paused).lower()), 1.0


def _holds(series: Series) -> Values:
    return [((reason,), times) for reason, times in series.decisions.items() if reason in HOLDS]


def _begun(report: Report) -> float | None:
    return report.flow.begun if report.flow is not None and report.flow.heard else None


def _oldest_drain(report: Report) -> float | None:
    seen = report.observation
    if seen is None:
        return None
    return max((seen.at - victim.since for victim in report.drain.leaving), default=None)


OF_POOLS: Final = (
    Family(
        "celery_queue_length",
        "Messages in the broker's lists of this queue, all priorities.",
        _of_queues(lambda series, queue: series.lengths.get(queue, UNKNOWN).exact),
        ("queue_name",),
    ),
    Family(
        "celery_active_worker_count",
        "Workers that take messages of this queue; those that leave do not.",
        _of_queues(lambda series, _queue: _workers(series)),
        ("queue_name",),
    ),
    Family(
        "celery_active_process_count",
        "Slots of the workers that take messages of this queue: tasks that they can run at a time.",
        _of_queues(lambda series, _queue: _capacity(series)),
        ("queue_name",),
    ),
    Family(
        "celery_fleet_queued",
        "Messages in all queues of the pool, all priorities, due or not.",
        _of_report(lambda report: report.queued.exact),
    ),
    Family(
        "celery_fleet_unacked",
        "Messages that workers hold and have not acknowledged.",
        _of_report(lambda report: report.unacked.exact),
    ),
    Family("celery_fleet_active", "Tasks that run.", _of_report(lambda report: report.active)),
    Family(
        "celery_fleet_not_due",
        "Tasks with a time in the future, wherever they wait; part of queued and unacked.",
        _of_report(lambda report: report.not_due.exact),
    ),
    Family(
        "celery_fleet_stranded",
        "Messages whose worker is gone, until the broker's visibility timeout; part of unacked.",
        _of_report(lambda report: report.stranded),
    ),
    Family(
        "celery_fleet_demand",
        "What is to do now, each task once. The two bounds differ where something is not known for certain.",
        _demand,
        ("bound",),
    ),
    Family(
        "celery_fleet_capacity",
        "Slots of the workers that still take tasks.",
        _of_report(lambda report: report.capacity),
    ),
    Family(
        "celery_fleet_replicas",
        "Worker pods that exist, terminating ones not counted.",
        _of_report(lambda report: report.replicas),
    ),
    Family(
        "celery_fleet_ready_replicas",
        "Of the existing worker pods, those that are ready.",
        _of_deployment(lambda deployment: deployment.ready_replicas),
    ),
    Family(
        "celery_fleet_spec_replicas",
        "Worker pods that the Deployment asks for.",
        _of_deployment(lambda deployment: deployment.spec_replicas),
    ),
    Family(
        "celery_fleet_desired_replicas",
        "Worker pods that the last decision asks for; in shadow, what it would ask for.",
        _of_report(lambda report: report.decision.desired_replicas if report.decision else None),
    ),
    Family(
        "celery_fleet_min_replicas",
        "minReplicas of the pool.",
        _of_policy(lambda policy: policy.min_replicas),
    ),
    Family(
        "celery_fleet_max_replicas",
        "maxReplicas of the pool.",
        _of_policy(lambda policy: policy.max_replicas),
    ),
    Family(
        "celery_fleet_draining",
        "Workers that take no more tasks and leave.",
        _of_report(lambda report: len(report.drain.leaving)),
    ),
    Family(
        "celery_fleet_oldest_drain_seconds",
        "For how long the first of them has been leaving; no series where nobody leaves.",
        _of_report(_oldest_drain),
    ),
    Family(
        "celery_fleet_drain_limit_seconds",
        "drainSeconds of the pool: a drain that takes longer is given up.",
        _of_policy(lambda policy: policy.drain_seconds),
    ),
    Family(
        "celery_fleet_ready",
        "1 where the pool's condition Ready is True, else 0, with the condition's reason.",
        _ready,
        ("reason",),
    ),
    Family(
        "celery_fleet_state",
        "1, with the one word for how the pool is doing: Active, Idle, Hold, Draining, Paused or Limited.",
        lambda series: [((state_of(series.report),), 1.0)] if series.report is not None else (),
        ("state",),
    ),
    Family(
        "celery_fleet_pool_info",
        "1, with the pool's Deployment, its mode (active or shadow) and whether it is paused.",
        _info,
        ("deployment", "mode", "paused"),
    ),
    Family(
        "celery_fleet_tasks_begun",
        "Tasks that the workers have begun, by their own word, since this scaler follows them.",
        _of_report(_begun),
        counts=True,
    ),
    Family(
        "celery_fleet_decisions",
        "Ticks by the reason of their decision.",
        _of_tally(lambda series: series.decisions),
        ("reason",),
        counts=True,
    ),
    Family(
        "celery_fleet_holds",
        "Ticks that kept the replicas because something was unknown or somebody else decides.",
        _holds,
        ("cause",),
        counts=True,
    ),
    Family(
        "celery_fleet_scalings",
        "Changes of the Deployment's replicas that this scaler made, up or down.",
        _of_tally(lambda series: series.scalings),
        ("direction",),
        counts=True,
    ),
    Family(
        "celery_fleet_drains",
        "Drains that ended: removed, taken_back because load returned, or given up at the deadline.",
        _of_tally(lambda series: series.drains),
        ("outcome",),
        counts=True,
    ),
)


class _OfPools(Collector):
    """The series of all pools, made when they are asked for: a thousand objects cost nothing in between.

    One family at a time, so that a scrape of a thousand pools does not hold all samples at once.
    """

    def __init__(self) -> None:
        self.pools: dict[str, Series] = {}

    def collect(self) -> Iterator[Metric]:
        for family in OF_POOLS:
            kind = CounterMetricFamily if family.counts else GaugeMetricFamily
            made = kind(family.name, family.meaning, labels=("pool", *family.labels))
            for pool, series in self.pools.items():
                for labels, value in family.values(series):
                    if value is not None:
                        made.add_metric((pool, *labels), value)
            yield made


class Metrics:
    def __init__(self, *, started_at: float) -> None:
        """`started_at` is when this scaler started, in seconds since the epoch."""
        self.registry = CollectorRegistry()
        self._pools = _OfPools()
        self.registry.register(self._pools)
        self._lengths: Mapping[str, Count] = {}
        self._read = Histogram(
            "celery_fleet_broker_read_seconds",
            "Time of one read of all queues.",
            registry=self.registry,
            buckets=READ_SECONDS,
        )
        self._broker_up = Gauge(
            "celery_fleet_broker_up",
            "1 where the last read of the broker had an answer, 0 where it had none; NaN before the first.",
            registry=self.registry,
        )
        self._broker_up.set(math.nan)
        self._broker_failures = Counter(
            "celery_fleet_broker_failures",
            "Reads of the broker that failed, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._tick = Histogram(
            "celery_fleet_tick_seconds",
            "Time of one tick: reading, asking, deciding and writing, for all pools.",
            registry=self.registry,
            buckets=TICK_SECONDS,
        )
        self._good_tick = Gauge(
            "celery_fleet_last_good_tick_timestamp_seconds",
            "When broker and namespace were last read in full; at first, when the scaler started.",
            registry=self.registry,
        )
        self._good_tick.set(started_at)
        self._drain = Histogram(
            "celery_fleet_drain_duration_seconds",
            "Time from the choice of a worker to leave until its drain ended, all pools together.",
            ["outcome"],
            registry=self.registry,
            buckets=DRAIN_SECONDS,
        )
        self._requests = Counter(
            "celery_fleet_api_requests",
            "Requests to the Kubernetes API; code none had no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._errors = Counter(
            "celery_fleet_errors",
            "Failures by kind; bug is one that nobody foresaw.",
            ["kind"],
            registry=self.registry,
        )
        self._leading = Gauge(
            "celery_fleet_lease_held",
            "1 where this scaler may write, 0 where it only observes.",
            registry=self.registry,
        )

    def judged(self, pool: Pool, report: Report, deployment: Deployment | None) -> None:
        series = self._pools.pools.setdefault(pool.name, Series())
        series.policy, series.report, series.deployment = pool.policy, report, deployment
        series.lengths = self._lengths
        if report.decision is not None:
            series.decisions[report.decision.reason] += 1
        for drain in report.ended:
            series.drains[drain.outcome] += 1
            self._drain.labels(drain.outcome).observe(drain.seconds)

    def scaled(self, pool: Pool, before: int, after: int) -> None:
        series = self._pools.pools.setdefault(pool.name, Series())
        series.scalings["up" if after > before else "down"] += 1

    def forgot(self, name: str) -> None:
        self._pools.pools.pop(name, None)

    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None:
        self._read.observe(seconds)
        answered = isinstance(backlog, Backlog)
        self._broker_up.set(answered)
        self._lengths = backlog.lengths if isinstance(backlog, Backlog) else {}
        if isinstance(backlog, BrokerFailure):
            self._broker_failures.labels(backlog.reason).inc()

    def failed(self, kind: str) -> None:
        self._errors.labels(kind).inc()

    def requested(self, verb: str, resource: str, code: str) -> None:
        self._requests.labels(verb, resource, code).inc()

    def ticked(self, at: float, *, seconds: float, good: bool, leading: bool) -> None:
        self._tick.observe(seconds)
        if good:
            self._good_tick.set(at)
        self._leading.set(leading)
