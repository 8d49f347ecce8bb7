"""Hearing real Celery workers, and what is known of them while they or the broker are away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange
from redis import Redis

from scaler.workers.answers import Heard, Heartbeat
from scaler.workers.heartbeats import FORGET_SECONDS, HeartbeatListener
from scaler.workers.link import Link
from tests.conftest import RedisServer, free_port
from tests.scaler.workers import CeleryWorkers

EVENT = {"type": "worker-heartbeat", "hostname": "a@test", "active": 1, "processed": 7}


@pytest.fixture
def listener(link: Link) -> Iterator[HeartbeatListener]:
    listener = HeartbeatListener(link)
    listener.start()
    wait(lambda: listener.heard().since is not None)
    yield listener
    listener.close()


def wait(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)


def publish(url: str, *events: object, **options: Any) -> None:
    """Send events as a worker does."""
    exchange = Exchange("celeryev", "fanout", durable=False)
    with Connection(url) as connection, connection.channel() as channel:
        producer = connection.Producer(channel, exchange)
        for event in events:
            producer.publish(event, "worker.heartbeat", **options)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
async def test_a_worker_is_heard_until_it_hangs_or_dies(
    listener: HeartbeatListener, workers: CeleryWorkers, tmp_path: Path, pool: str
) -> None:
    """Every 2 s, with the number of tasks that it runs; then silence grows while others are heard."""
    gate = tmp_path / "gate"
    mute, well = workers.start("mute", pool=pool, queues="mute"), workers.start("well", pool=pool)
    workers.publish(gate)
    await workers.until(
        "both are heard, one with its task",
        lambda: (
            listener.heard().last.keys() == {mute.node, well.node}
            and listener.heard().last[well.node].active == 1
        ),
    )
    assert listener.heard().last[mute.node].active == 0

    def silent(node: str) -> float:
        return listener.heard().silent_seconds(node, time.time()) or 0

    mute.signal(signal.SIGSTOP)
    await workers.until("one is silent", lambda: silent(mute.node) > 5)
    assert silent(well.node) < 4
    mute.signal(signal.SIGCONT)
    await workers.until("it is heard again", lambda: silent(mute.node) < 2)

    mute.kill()
    await workers.until("it is silent for good", lambda: silent(mute.node) > 5)
    assert not listener.heard().last[mute.node].offline
    gate.touch()
    await workers.until("the task is done", lambda: listener.heard().last[well.node].active == 0)
    assert listener.heard().last[well.node].processed == 1


async def test_a_worker_that_goes_says_so_while_its_task_still_runs(
    listener: HeartbeatListener, workers: CeleryWorkers, tmp_path: Path
) -> None:
    """And one that comes back under its name is there again."""
    gate = tmp_path / "gate"
    worker = workers.start("a")
    workers.publish(gate)

    def last(**wanted: object) -> bool:
        beat = listener.heard().last.get(worker.node)
        return beat is not None and all(getattr(beat, name) == wanted[name] for name in wanted)

    await workers.until("its task runs", lambda: last(active=1, offline=False))
    worker.signal(signal.SIGTERM)
    await workers.until("it said that it goes", lambda: last(active=1, offline=True))
    gate.touch()
    await workers.until("it is gone", lambda: worker.process.poll() is not None)
    assert last(offline=True)

    workers.start("a")
    await workers.until("it is back", lambda: last(active=0, offline=False))


async def test_after_the_broker_was_away_listening_begins_anew(
    listener: HeartbeatListener, workers: CeleryWorkers, redis_server: RedisServer
) -> None:
    """What was heard before stays known, and nobody counts as silent for the time without ears."""
    worker = workers.start("a")
    await workers.until("it is heard", lambda: worker.node in listener.heard().last)
    before = listener.heard()

    redis_server.stop()
    await workers.until("nobody listens", lambda: listener.heard().since is None)
    away = listener.heard()
    assert away.last.keys() == {worker.node}
    assert away.failure is not None
    assert "refused" in away.failure or "closed" in away.failure
    assert away.silent_seconds(worker.node, time.time()) is None

    await asyncio.sleep(3)
    redis_server.start()
    await workers.until("we listen again", lambda: listener.heard().since is not None)
    again = listener.heard()
    assert before.since is not None
    assert again.since is not None
    assert again.since > before.since + 3
    assert again.failure is None
    assert (again.silent_seconds(worker.node, time.time()) or 0) < 3
    await workers.until(
        "it is heard again", lambda: listener.heard().last[worker.node].at > again.last[worker.node].at
    )


def test_what_is_no_heartbeat_changes_nothing(
    listener: HeartbeatListener, redis_server: RedisServer, redis: Redis
) -> None:
    """Whoever can publish to the broker may send anything; a good one is heard over the same line."""
    since = listener.heard().since
    for payload in ("no JSON", "null", "[]", "{}", '{"body": 1, "headers": {}, "properties": {}}', "\xff"):
        redis.publish("/0.celeryev/worker.heartbeat", payload)
    malformed: list[object] = [
        None,
        ["a@test"],
        {},
        EVENT | {"hostname": None},
        EVENT | {"hostname": "x" * 10_000},
        EVENT | {"active": -1},
        EVENT | {"active": True},
        EVENT | {"active": "1"},
        EVENT | {"processed": 1.5},
        EVENT | {"type": "worker-surprise"},
        EVENT | {"type": ["worker-heartbeat"]},
    ]
    publish(redis_server.url, *malformed)
    publish(redis_server.url, EVENT, serializer="yaml")
    # kombu leaves what came in one go with a malformed event for the next time that something comes.
    for _ in range(2):
        publish(redis_server.url, EVENT | {"hostname": "good@test"})
        time.sleep(0.5)

    assert listener.heard().last.keys() == {"good@test"}
    assert listener.heard().since == since


def test_a_reading_carries_the_scalers_time_and_is_forgotten_in_the_end(
    link: Link, redis_server: RedisServer
) -> None:
    """A worker whose pod is gone must not be kept for ever."""
    now = 1000.0
    listener = HeartbeatListener(link, clock=lambda: now)
    listener.start()
    wait(lambda: listener.heard().since is not None)
    publish(redis_server.url, EVENT | {"timestamp": 5.0})
    wait(lambda: listener.heard().last)
    beat = Heartbeat(at=1000, active=1, processed=7, offline=False)
    assert listener.heard() == Heard(since=1000, last={"a@test": beat})

    now = 1000 + FORGET_SECONDS
    assert listener.heard().last == {"a@test": beat}
    now += 1
    assert listener.heard().last == {}
    listener.close()


def test_a_worker_unheard_of_is_as_silent_as_we_listened() -> None:
    heard = Heard(since=100, last={"old": Heartbeat(at=50, active=0, processed=0, offline=False)})

    assert heard.silent_seconds("unheard", 102) == 2
    assert heard.silent_seconds("old", 102) == 2
    assert Heard(failure="no broker").silent_seconds("old", 102) is None


def test_it_follows_the_file_to_another_broker(
    listener: HeartbeatListener, link: Link, tmp_path: Path
) -> None:
    """As when the Secret changes."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = RedisServer(free_port(), folder)
    other.start()
    try:
        since = listener.heard().since
        link.url_file.path.write_text(other.url)
        wait(lambda: listener.heard().since not in (since, None))
        publish(other.url, EVENT)
        wait(lambda: listener.heard().last.keys() == {"a@test"})
        listener.close()
    finally:
        other.stop()


@pytest.mark.parametrize("broker", ["well", "away", "hanging"])
def test_it_stops_within_a_second(redis_server: RedisServer, link: Link, broker: str) -> None:
    """Whatever the broker does."""
    listener = HeartbeatListener(link)
    listener.start()
    wait(lambda: listener.heard().since is not None)
    assert redis_server.process is not None
    if broker == "away":
        redis_server.stop()
        wait(lambda: listener.heard().since is None)
    if broker == "hanging":
        redis_server.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    listener.close()
    if broker == "hanging":
        redis_server.process.send_signal(signal.SIGCONT)

    assert time.monotonic() - begin < 1.1


def test_it_leaves_no_binding(link: Link, redis: Redis) -> None:
    """One while it listens, whose name is the same each time; none afterwards."""
    for _ in range(2):
        listener = HeartbeatListener(link)
        listener.start()
        wait(lambda listener=listener: listener.heard().since is not None)
        assert redis.scard("_kombu.binding.celeryev") == 1
        listener.close()
        assert redis.keys("*celeryev") == []
