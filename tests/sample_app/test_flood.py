"""POST /flood: what reaches the broker, what is refused, and what is said when the broker is away."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis

from tests.conftest import RedisServer
from tests.sample_app.conftest import Page


def read(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


@pytest.fixture
def broker(redis_server: RedisServer) -> redis.Redis:
    return redis.Redis(port=redis_server.port)


def test_a_flood_reaches_the_queue_as_json(page: Page, broker: redis.Redis) -> None:
    """Batches times tasks messages, in the order of their ids, and the count that the answer gives."""
    status, answer = page.flood("tasks=50&batches=2")

    assert status == 200
    assert (answer["task"], answer["published"]) == ("add", 100)
    assert 0 < answer["seconds"] < 30
    messages = [json.loads(message) for message in reversed(broker.lrange("celery", 0, -1))]
    assert {message["content-type"] for message in messages} == {"application/json"}
    assert [message["headers"]["id"] for message in messages] == [
        f"{answer['flood']}-{batch}-{number}" for batch in range(2) for number in range(50)
    ]


def test_every_recorded_task_starts_and_finishes_once(page: Page, ledger: Path) -> None:
    """The ledger holds one start and one finish per published id, with the pod that ran it."""
    _, answer = page.flood("tasks=20&batches=2&task=record&ms=1")
    deadline = time.monotonic() + 30
    while len(read(ledger)) < 80 and time.monotonic() < deadline:
        time.sleep(0.05)

    entries = read(ledger)
    published = sorted(f"{answer['flood']}-{batch}-{number}" for batch in range(2) for number in range(20))
    for event in ("start", "finish"):
        assert sorted(str(entry["id"]) for entry in entries if entry["event"] == event) == published
    assert all(entry["pod"] for entry in entries)
    attempts = {
        event: {e["attempt"] for e in entries if e["event"] == event} for event in ("start", "finish")
    }
    assert attempts["start"] == attempts["finish"]
    assert len(attempts["start"]) == len(published)
    assert {entry["retries"] for entry in entries if entry["event"] == "start"} == {0}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        pytest.param("tasks=0", "tasks must be a whole number from 1 to 100,000", id="no tasks"),
        pytest.param("tasks=many", "tasks must be a whole number from 1 to 100,000", id="not a number"),
        pytest.param(
            "tasks=" + "9" * 4000, "tasks must be a whole number from 1 to 100,000", id="4,000 digits"
        ),
        pytest.param("batches=-1", "batches must be a whole number from 1 to 100,000", id="negative batches"),
        pytest.param(
            "tasks=60000&batches=2", "tasks x batches must not be above 100,000", id="too many in all"
        ),
        pytest.param("task=rm", "task must be add, sleep, cpu or record, not rm", id="unknown task"),
    ],
)
def test_a_wrong_flood_is_refused_before_anything_is_published(
    page: Page, broker: redis.Redis, query: str, error: str
) -> None:
    assert page.flood(query) == (400, {"error": error})
    assert broker.keys() == []


def test_a_broker_that_is_away_is_said_with_the_count(page: Page, redis_server: RedisServer) -> None:
    """The page stays up, the request ends soon, and the next one works when the broker is back."""
    redis_server.stop()

    status, answer = page.flood("tasks=10&batches=1")

    assert status == 503
    assert answer["published"] == 0
    assert answer["error"].startswith("the broker is away: ")
    assert page.request("GET", "/healthz") == (200, "ok\n")
    redis_server.start()
    assert page.flood("tasks=10&batches=1")[1]["published"] == 10
