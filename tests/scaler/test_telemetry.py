"""What the scaler tells: log lines where something changed. Its figures are tested where they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import structlog

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.contract import Ready
from scaler.metrics import Metrics
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, Memory, Reason
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.telemetry import Telemetry
from scaler.web.board import Board
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

    log = structlog.wrap_logger(
        None,
        processors=[structlog.processors.add_log_level, keep],
        wrapper_class=structlog.make_filtering_bound_logger("DEBUG"),
    )
    return Telemetry(log, Metrics(started_at=AT), Board("shop", 2.0))


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
    """What nobody foresaw is told with where it happened."""
    telemetry.crashed("tick", ZeroDivisionError("oh"))

    assert (lines[0]["event"], lines[0]["level"]) == ("crashed", "error")
    assert "exc_info" in lines[0]
