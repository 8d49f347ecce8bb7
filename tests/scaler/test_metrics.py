"""What /metrics says: of each pool, of queues by celery-exporter's names, and of the scaler itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.contract import Ready
from scaler.metrics import Metrics
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, Memory, Reason
from scaler.pool.drain import Ended, Leaving, Outcome, Plan
from scaler.pool.flow import Flow
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from tests.scaler.fakes import FakeCluster
from tests.scaler.samples import AT, observation
from tests.scaler.shown import Shown

SEVEN = Count.exactly(7)


def report(
    reason: Reason = Reason.DEMAND_MET, queued: Count = SEVEN, unacked: Count = UNKNOWN, **changes: object
) -> Report:
    plain = Report(
        generation=1,
        ready=Ready.WATCHING,
        ready_message="well",
        replicas=4,
        queued=queued,
        unacked=unacked,
        decision=Decision(desired_replicas=5, reason=reason, message="why"),
        memory=Memory(),
        observation=observation(at=AT + 30),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def judge(metrics: Metrics, name: str = "sums", **changes: object) -> None:
    cluster = FakeCluster()
    pool = Pool(cluster.add(name, replicas=4))
    deployment = replace(cluster.deployments[f"{name}-celery-worker"], ready_replicas=3)
    metrics.judged(pool, report(**changes), deployment)  # type: ignore[arg-type]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found = metrics.registry.get_sample_value(name, labels)
    return None if found is None else float(found)


def fleet(metrics: Metrics, name: str, **labels: str) -> float | None:
    return value(metrics, f"celery_fleet_{name}", pool="sums", **labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(started_at=AT)


def test_figures_of_a_pool_have_series(metrics: Metrics) -> None:
    """Messages, replicas of each kind, limits, state, decisions and holds."""
    judge(metrics, reason=Reason.DEMAND_UNKNOWN)
    judge(metrics, demand=Count(3, 9), active=3, not_due=SEVEN, capacity=8, stranded=1)

    assert [fleet(metrics, name) for name in ("queued", "active", "not_due", "capacity", "stranded")] == [
        7, 3, 7, 8, 1,
    ]  # fmt: skip
    kinds = ("", "ready_", "spec_", "desired_", "min_", "max_")
    assert [fleet(metrics, f"{kind}replicas") for kind in kinds] == [4, 3, 4, 5, 2, 10]
    assert [fleet(metrics, "demand", bound=bound) for bound in ("at_least", "at_most")] == [3, 9]
    assert fleet(metrics, "ready", reason="Watching") == 1
    assert fleet(metrics, "state", state="Active") == 1
    assert fleet(metrics, "pool_info", deployment="sums-celery-worker", mode="active", paused="false") == 1
    assert fleet(metrics, "decisions_total", reason="DemandMet") == 1
    assert fleet(metrics, "holds_total", cause="DemandUnknown") == 1
    assert fleet(metrics, "holds_total", cause="DemandMet") is None


def test_unknown_figure_has_no_series(metrics: Metrics) -> None:
    """A gauge that fell to 0 in an outage would read as an empty queue."""
    judge(metrics, queued=Count(3, None))

    names = ("queued", "unacked", "active", "not_due", "capacity", "stranded", "oldest_drain_seconds")
    assert [fleet(metrics, name) for name in names] == [None] * 7
    assert [fleet(metrics, "demand", bound=bound) for bound in ("at_least", "at_most")] == [None, None]
    assert fleet(metrics, "tasks_begun_total") is None
    assert fleet(metrics, "draining") == 0


def test_queues_have_the_names_of_celery_exporter(metrics: Metrics) -> None:
    """Its dashboards read them; workers that leave are none that take messages."""
    metrics.broker_read(0.1, Backlog(lengths={"sums": SEVEN}, unacked=Unacked()))
    judge(metrics, capacity=6)

    named = {"queue_name": "sums", "pool": "sums"}
    assert value(metrics, "celery_queue_length", **named) == 7
    assert value(metrics, "celery_active_worker_count", **named) == 3
    assert value(metrics, "celery_active_process_count", **named) == 6


def test_a_queue_of_a_broker_that_is_away_has_no_length(metrics: Metrics) -> None:
    metrics.broker_read(0.1, Backlog(lengths={"sums": SEVEN}, unacked=Unacked()))
    judge(metrics)
    metrics.broker_read(0.1, BrokerFailure(Ready.BROKER_UNREACHABLE, "away"))
    judge(metrics)

    assert value(metrics, "celery_queue_length", queue_name="sums", pool="sums") is None
    assert value(metrics, "celery_fleet_broker_up") == 0


def test_drains_are_counted_and_timed_when_they_end(metrics: Metrics) -> None:
    """How many, how long, and for how long the first one that still leaves has been leaving."""
    ended = (Ended("a", 12.0, Outcome.REMOVED), Ended("b", 300.0, Outcome.DEADLINE))
    judge(metrics, ended=ended, drain=Plan(leaving=(Leaving("c", AT + 5), Leaving("d", AT + 20))))

    assert fleet(metrics, "drains_total", outcome="removed") == 1
    assert fleet(metrics, "drains_total", outcome="deadline") == 1
    assert value(metrics, "celery_fleet_drain_duration_seconds_sum", outcome="removed") == 12
    assert fleet(metrics, "draining") == 2
    assert fleet(metrics, "oldest_drain_seconds") == 25
    assert fleet(metrics, "drain_limit_seconds") == 300


def test_tasks_begun_are_counted_once_somebody_was_heard(metrics: Metrics) -> None:
    judge(metrics, flow=Flow(begun=40, heard=True))

    assert fleet(metrics, "tasks_begun_total") == 40


def test_removed_object_takes_its_series_along(metrics: Metrics) -> None:
    """Nothing is told of an object that is gone."""
    judge(metrics, "sums")
    judge(metrics, "mails")
    metrics.forgot("sums")

    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert {sample.labels["pool"] for sample in samples if "pool" in sample.labels} == {"mails"}


def test_the_scaler_tells_of_itself(metrics: Metrics) -> None:
    """R3: each kind of failure has a counter of its own; the last good tick stays the last good one."""
    metrics.broker_read(0.2, BrokerFailure(Ready.BROKER_REFUSED, "no"))
    metrics.broker_read(0.2, Backlog(lengths={}, unacked=Unacked()))
    metrics.failed("conflict")
    metrics.requested("patch", "deployments/scale", "409")
    metrics.ticked(AT, seconds=0.5, good=True, leading=True)
    metrics.ticked(AT + 2, seconds=0.5, good=False, leading=False)

    def own(name: str, **labels: str) -> float | None:
        return value(metrics, f"celery_fleet_{name}", **labels)

    assert own("broker_failures_total", reason="BrokerRefused") == 1
    assert own("broker_read_seconds_count") == 2
    assert own("errors_total", kind="conflict") == 1
    assert own("api_requests_total", verb="patch", resource="deployments/scale", code="409") == 1
    assert own("last_good_tick_timestamp_seconds") == AT
    assert own("tick_seconds_sum") == 1
    assert own("lease_held") == 0


def test_before_the_first_good_tick_its_age_is_that_of_the_scaler(metrics: Metrics) -> None:
    """An age since 1970 would be an alert of 20,000 days while the scaler starts."""
    metrics.ticked(AT + 30, seconds=30, good=False, leading=False)

    assert value(metrics, "celery_fleet_last_good_tick_timestamp_seconds") == AT


async def test_a_real_loop_fills_every_family() -> None:
    """Load, scale-out, drain and outage, and no metric is left without a series."""
    shown = Shown()
    await shown.live()

    assert [each.name for each in shown.metrics.registry.collect() if not each.samples] == []
    assert fleet(shown.metrics, "scalings_total", direction="up") == 2
    assert fleet(shown.metrics, "drains_total", outcome="removed") == 7
    assert fleet(shown.metrics, "holds_total", cause="DemandUnknown") == 1
    assert fleet(shown.metrics, "oldest_drain_seconds") == 2
