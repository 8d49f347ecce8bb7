"""Lengths read from a real redis-server, filled by a real Celery."""

from __future__ import annotations

import time

from celery import Celery
from redis import Redis

from scaler.broker.broker_by_url import BrokerByUrl
from scaler.contract import Ready
from scaler.pool.count import Count
from tests.conftest import RedisServer
from tests.scaler.reading import read


async def test_nothing_there_is_a_zero_that_was_read(broker: BrokerByUrl) -> None:
    """An empty list has no key, and that reads as 0."""
    backlog = await read(broker, "sums")

    assert (backlog.queued(["sums"]), backlog.delivered(["sums"])) == (Count(0, 0), Count(0, 0))
    assert backlog.failure(["sums"]) is None


async def test_messages_of_all_priorities_count(broker: BrokerByUrl, redis_server: RedisServer) -> None:
    """Celery spreads ten priorities over four lists; the queue's length is their sum."""
    with Celery("sums", broker=redis_server.url) as app:
        for priority in range(10):
            app.send_task("add", queue="sums", priority=priority)
        app.send_task("add", queue="mails")

    backlog = await read(broker, "sums", "mails")

    assert backlog.queued(["sums"]) == Count(10, 10)
    assert backlog.queued(["mails"]) == Count(1, 1)
    assert backlog.queued(["sums", "mails"]) == Count(11, 11)


async def test_one_tick_is_one_round_trip(broker: BrokerByUrl, redis: Redis) -> None:
    """1,000 queues are asked for in one write; the server sees them in a handful of reads."""
    queues = [f"q{number}" for number in range(1000)]
    await broker.read(queues, time.time())
    before = redis.info("stats")["total_reads_processed"]

    backlog = await broker.read(queues, time.time())

    reads = redis.info("stats")["total_reads_processed"] - before
    assert len(backlog.lengths) == 1000
    assert reads < 40, "Redis reads 16 kB at a time, and 4,000 LLEN are about 130 kB"


async def test_wrong_type_makes_one_queue_unknown(broker: BrokerByUrl, redis: Redis) -> None:
    """The other queues stay exact, and the sentence names the key."""
    redis.set("mails\x06\x163", "no list")
    redis.lpush("mails", "x")
    redis.lpush("sums", "x")

    backlog = await read(broker, "sums", "mails")

    assert backlog.queued(["sums"]) == Count(1, 1)
    assert backlog.queued(["mails"]) == Count(1, None)
    assert backlog.failure(["sums"]) is None
    failure = backlog.failure(["mails"])
    assert failure is not None
    assert (failure.reason, "mails" in failure.sentence) == (Ready.BROKER_UNREADABLE, True)


async def test_one_connection_is_used(broker: BrokerByUrl, redis: Redis) -> None:
    """However many ticks and failures, Redis sees one client of the scaler."""
    for _ in range(5):
        await read(broker, "sums")
    before = len(redis.client_list())
    redis.client_kill_filter(_type="normal", skipme=True)
    await read(broker, "sums")

    assert len(redis.client_list()) == before == 2
