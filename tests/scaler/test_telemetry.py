"""What the scaler tells: probes and metrics over HTTP, and log lines where something changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import structlog

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.cluster.objects import ClusterFailure, Kind
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, Memory, Reason
from scaler.pool.drain import Leaving, Plan
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.telemetry import Telemetry, serve
from tests.conftest import free_port
from tests.scaler.fakes import FakeCluster
from tests.scaler.samples import AT

SEVEN = Count.exactly(7)


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def telemetry(lines: list[dict[str, Any]]) -> Telemetry:
    def keep(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
        lines.append(json.loads(json.dumps(dict(event), default=str)))
        raise structlog.DropEvent

    return Telemetry(
        structlog.wrap_logger(
            None,
            processors=[structlog.processors.add_log_level, keep],
            wrapper_class=structlog.make_filtering_bound_logger("DEBUG"),
        )
    )


def report(
    reason: Reason = Reason.DEMAND_MET, queued: Count = SEVEN, unacked: Count = UNKNOWN, **changes: Any
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
    )
    return replace(plain, **changes)


def judge(telemetry: Telemetry, name: str = "sums", **changes: Any) -> None:
    cluster = FakeCluster()
    pool = Pool(cluster.add(name, replicas=4))
    telemetry.judged(pool, report(**changes), cluster.deployments[f"{name}-celery-worker"])


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    found = telemetry.registry.get_sample_value(f"celery_fleet_{name}", labels)
    return None if found is None else float(found)


def test_figures_of_a_pool_have_series(telemetry: Telemetry) -> None:
    """Queue, replicas of each kind, limits, decisions and holds, by pool."""
    judge(telemetry)
    judge(telemetry, reason=Reason.DEMAND_UNKNOWN)

    kinds = ("existing", "spec", "desired", "min", "max")
    assert [value(telemetry, "replicas", pool="sums", kind=kind) for kind in kinds] == [4, 4, 5, 2, 10]
    assert value(telemetry, "queue_length", pool="sums") == 7
    assert value(telemetry, "ready", pool="sums", reason="Watching") == 1
    assert value(telemetry, "decisions_total", pool="sums", reason="DemandMet") == 1
    assert value(telemetry, "holds_total", pool="sums", cause="DemandUnknown") == 1
    assert value(telemetry, "holds_total", pool="sums", cause="DemandMet") is None


def test_unknown_figure_has_no_series(telemetry: Telemetry) -> None:
    """A gauge that fell to 0 in an outage would read as an empty queue."""
    judge(telemetry, queued=Count(3, None))

    assert value(telemetry, "queue_length", pool="sums") is None
    assert value(telemetry, "unacked", pool="sums") is None


def test_workers_have_series(telemetry: Telemetry) -> None:
    """What they run, hold for later and could run; who leaves is a number, also where it is 0."""
    drain = Plan(leaving=(Leaving("a", AT), Leaving("b", AT)))
    names = ("active", "not_due", "capacity", "stranded", "draining")
    judge(telemetry)
    assert [value(telemetry, name, pool="sums") for name in names] == [None, None, None, None, 0]

    judge(telemetry, active=3, not_due=SEVEN, capacity=8, stranded=1, drain=drain)

    assert [value(telemetry, name, pool="sums") for name in names] == [3, 7, 8, 1, 2]


def test_removed_object_takes_its_series_along(telemetry: Telemetry) -> None:
    """Nothing is told of an object that is gone."""
    judge(telemetry, "sums")
    judge(telemetry, "mails")
    telemetry.forgot("sums")

    series = {
        sample.labels["pool"]
        for family in telemetry.registry.collect()
        for sample in family.samples
        if "pool" in sample.labels
    }
    assert series == {"mails"}


def test_failures_are_counted_by_kind(telemetry: Telemetry) -> None:
    """R3: each kind of failure has a counter of its own."""
    telemetry.broker_read(0.2, BrokerFailure(Ready.BROKER_REFUSED, "no"))
    telemetry.broker_read(0.2, Backlog(lengths={}, unacked=Unacked()))
    telemetry.failed("writing", ClusterFailure(Kind.CONFLICT, "changed"))
    telemetry.requested("patch", "deployments/scale", "409")
    telemetry.ticked(AT, good=True, leading=True)
    telemetry.ticked(AT + 2, good=False, leading=False)

    assert value(telemetry, "broker_failures_total", reason="BrokerRefused") == 1
    assert value(telemetry, "broker_read_seconds_count") == 2
    assert value(telemetry, "errors_total", kind="conflict") == 1
    assert value(telemetry, "api_requests_total", verb="patch", resource="deployments/scale", code="409") == 1
    assert value(telemetry, "last_good_tick_timestamp_seconds") == AT
    assert value(telemetry, "lease_held") == 0


def test_log_speaks_up_where_something_changed(telemetry: Telemetry, lines: list[dict[str, Any]]) -> None:
    """INFO for a new reason or number of replicas, DEBUG for the same again."""
    judge(telemetry)
    judge(telemetry)
    judge(telemetry, reason=Reason.DEMAND_ROSE)

    assert [(line["event"], line["level"], line["reason"]) for line in lines] == [
        ("decided", "info", "DemandMet"),
        ("decided", "debug", "DemandMet"),
        ("decided", "info", "DemandRose"),
    ]


def test_outage_is_logged_once(telemetry: Telemetry, lines: list[dict[str, Any]]) -> None:
    """A broker that is away for an hour makes two lines, not 1,800."""
    failure = BrokerFailure(Ready.BROKER_UNREACHABLE, "Redis at redis:6379/0 cannot be reached")
    for answer in (failure, failure, failure, Backlog(lengths={}, unacked=Unacked())):
        telemetry.broker_read(0.1, answer)

    assert [line["message"] for line in lines] == [failure.sentence, "broker read"]


def test_bug_is_logged_with_its_trace(telemetry: Telemetry, lines: list[dict[str, Any]]) -> None:
    """What nobody foresaw is counted apart, and told with where it happened."""
    telemetry.crashed("tick", ZeroDivisionError("oh"))

    assert (lines[0]["event"], lines[0]["level"]) == ("crashed", "error")
    assert value(telemetry, "errors_total", kind="bug") == 1


class Heart:
    beats = True

    def __call__(self) -> bool:
        return self.beats


@pytest.fixture
async def http(telemetry: Telemetry) -> AsyncIterator[tuple[Heart, Callable[[str], Any]]]:
    heart, port = Heart(), free_port()
    runner = await serve(telemetry, heart, "127.0.0.1", port)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield heart, session.get
    await runner.cleanup()


async def test_healthz_answers_for_the_loop(http: tuple[Heart, Callable[[str], Any]]) -> None:
    """200 as long as it turns, 503 when it stands still: only then does a restart help."""
    heart, get = http
    async with get("/healthz") as well:
        assert well.status == 200
    heart.beats = False
    async with get("/healthz") as ill:
        assert ill.status == 503


async def test_metrics_are_prometheus_text(
    http: tuple[Heart, Callable[[str], Any]], telemetry: Telemetry
) -> None:
    """The format and the content type that Prometheus asks for."""
    judge(telemetry)
    async with http[1]("/metrics") as answer:
        text = await answer.text()

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'celery_fleet_replicas{kind="desired",pool="sums"} 5.0' in text
