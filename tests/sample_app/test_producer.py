"""The producer that keeps tasks outstanding: its arithmetic, and as a process with a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sample_app import ledger as writer
from sample_app.producer import Book, Order, Producer
from tests.conftest import RedisServer
from tests.sample_app.conftest import ROOT
from tests.sample_app.test_flood import read


def order(queue: str, outstanding: int) -> Order:
    return Order(queue=queue, outstanding=outstanding, batch="b")


def test_it_replaces_what_has_finished_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each queue has a number of its own; lowering one publishes nothing; each line is read once."""
    monkeypatch.setenv("LEDGER_DIR", str(tmp_path))
    sent: list[tuple[str, str]] = []

    def publish(queue: str, task_id: str, _seconds: float) -> bool:
        sent.append((queue, task_id))
        return True

    producer = Producer(publish, Book(tmp_path))
    producer.follow(order("one", 2))
    producer.follow(order("two", 1))

    producer.turn()
    producer.turn()
    assert sent == [("one", "b-one-1"), ("one", "b-one-2"), ("two", "b-two-3")]
    writer.finish("b-one-1", writer.start("b-one-1", retries=0, redelivered=False))
    running = writer.start("b-two-3", retries=0, redelivered=False)
    producer.turn()
    assert sent[3:] == [("one", "b-one-4")]
    (pod,) = producer.report()["running"]
    assert producer.report() == {
        "queues": {"one": {"published": 3, "outstanding": 2}, "two": {"published": 1, "outstanding": 1}},
        "running": {pod: 1},
    }
    producer.follow(order("two", 0))
    writer.finish("b-two-3", running)
    producer.turn()
    assert len(sent) == 4
    assert producer.report()["queues"]["two"]["outstanding"] == 0
    assert producer.report()["running"] == {}


def test_what_the_broker_refused_is_tried_again_under_another_name(tmp_path: Path) -> None:
    """A publish that failed may have reached the broker all the same."""
    answers = iter([True, False, True])
    sent = []

    def publish(_queue: str, task_id: str, _seconds: float) -> bool:
        sent.append(task_id)
        return next(answers)

    producer = Producer(publish, Book(tmp_path))
    producer.follow(order("one", 2))
    producer.turn()
    assert producer.report()["queues"]["one"] == {"published": 1, "outstanding": 1}
    producer.turn()

    assert sent == ["b-one-1", "b-one-2", "b-one-3"]
    assert producer.report()["queues"]["one"] == {"published": 2, "outstanding": 2}


def test_durations_are_log_uniform() -> None:
    """As many below the geometric mean as above it, and none outside the bounds."""
    times = [order("one", 1).duration() for _ in range(4000)]

    assert 0.1 <= min(times) < max(times) <= 30
    assert 1800 < sum(seconds < (0.1 * 30) ** 0.5 for seconds in times) < 2200


def test_as_a_process_it_keeps_a_worker_busy_and_records_what_it_published(
    redis_server: RedisServer, ledger: Path
) -> None:
    """Orders by stdin, reports by stdout; after the last order everything published has finished."""
    environment = {**os.environ, "CELERY_BROKER_URL": redis_server.url, "LEDGER_DIR": str(ledger)}
    process = subprocess.Popen(
        [sys.executable, "-m", "sample_app.producer"],
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def tell(outstanding: int) -> None:
            assert process.stdin is not None
            told = {"queue": "celery", "outstanding": outstanding, "batch": "b", "longest": 0.3}
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()

        tell(4)
        deadline = time.monotonic() + 30
        counts = {"published": 0, "outstanding": 0}
        for line in process.stdout:
            assert time.monotonic() < deadline
            counts = json.loads(line)["queues"].get("celery", counts)
            assert counts["outstanding"] <= 4
            if counts["published"] >= 20:
                tell(0)
            if counts["published"] >= 20 and counts["outstanding"] == 0:
                break
        process.stdin.close()
        assert process.wait(10) == 0
    entries = read(ledger)
    by_event = {
        event: sorted(str(e["id"]) for e in entries if e["event"] == event)
        for event in ("published", "start", "finish")
    }
    assert by_event["published"] == by_event["start"] == by_event["finish"]
    assert len(by_event["published"]) == counts["published"]
