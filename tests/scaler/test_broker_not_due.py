"""Messages whose time has not come, in the lists and in the unacked hash of a real redis-server."""

from __future__ import annotations

import time

import pytest
from celery import Celery
from redis import Redis

from scaler.broker import not_due
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.pool.count import Count
from tests.conftest import RedisServer
from tests.scaler.reading import read

IN_AN_HOUR = 3600


def send(app_url: str, *countdowns: float | None, queue: str = "sums") -> None:
    with Celery("producer", broker=app_url, set_as_current=False) as app:
        for countdown in countdowns:
            app.send_task("work", queue=queue, countdown=countdown, ignore_result=True)


async def test_what_is_not_due_is_told_apart_in_a_list(
    broker: BrokerByUrl, redis_server: RedisServer
) -> None:
    """An ETA in the future is no work for now; the next one is known."""
    send(redis_server.url, None, None, IN_AN_HOUR, 2 * IN_AN_HOUR)

    backlog = await read(broker, "sums")

    assert backlog.queued(["sums"]) == Count(4, 4)
    assert backlog.queued_due(["sums"]) == Count(2, 2)
    assert backlog.not_due(["sums"]) == Count(2, 2)
    due_at = backlog.next_due_at(["sums"])
    assert due_at is not None
    assert abs(due_at - time.time() - IN_AN_HOUR) < 5


async def test_what_is_not_due_becomes_due(broker: BrokerByUrl, redis_server: RedisServer) -> None:
    """The same message, an hour later."""
    send(redis_server.url, IN_AN_HOUR)

    later = await broker.read(["sums"], time.time() + IN_AN_HOUR + 5)

    assert (later.queued_due(["sums"]), later.not_due(["sums"])) == (Count(1, 1), Count(0, 0))
    assert later.next_due_at(["sums"]) is None


async def test_long_lists_count_as_due(
    broker: BrokerByUrl, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a long list each tick would cost more than it tells: nobody may rest on what is in it."""
    monkeypatch.setattr(not_due, "LIST_LOOKED_AT", 2)
    send(redis_server.url, IN_AN_HOUR, IN_AN_HOUR, IN_AN_HOUR)
    send(redis_server.url, IN_AN_HOUR, queue="mails")

    backlog = await read(broker, "sums", "mails")

    assert (backlog.queued_due(["sums"]), backlog.not_due(["sums"])) == (Count(3, 3), Count(0, None))
    assert (backlog.queued_due(["mails"]), backlog.not_due(["mails"])) == (Count(0, 0), Count(1, 1))


async def test_what_is_held_and_not_due_is_told_apart(broker: BrokerByUrl, redis: Redis) -> None:
    """One worker hoards ETAs: they are unacknowledged, and no work for now."""
    eta = "2999-01-01T00:00:00+00:00"
    entry = '[{"headers": {"id": "%s", "eta": %s}}, "", "sums"]'
    redis.hset("unacked", mapping={"a": entry % ("t-a", f'"{eta}"'), "b": entry % ("t-b", "null")})
    redis.zadd("unacked_index", {"a": 50.0, "b": 100.0})

    backlog = await read(broker, "sums")

    assert backlog.delivered(["sums"]) == Count(2, 2)
    assert (backlog.delivered_due(["sums"]), backlog.not_due(["sums"])) == (Count(1, 1), Count(1, 1))
    assert backlog.tasks_due(["sums"]) == {"t-b"}
    assert backlog.first_taken_at(["sums"]) == 100.0
    assert (backlog.taken_before(["sums"], 100.0), backlog.taken_before(["sums"], 101.0)) == (0, 1)


async def test_idle_costs_one_round_trip_and_a_short_list_two_more(broker: BrokerByUrl, redis: Redis) -> None:
    """Bodies of a list are read only where there are any."""
    await read(broker, "sums")
    redis.config_resetstat()
    await read(broker, "sums")
    idle = redis.info("commandstats")
    redis.lpush("sums", '{"headers": {}}')
    await read(broker, "sums")

    assert not {"cmdstat_lrange", "cmdstat_memory|usage"} & idle.keys()
    assert redis.info("commandstats")["cmdstat_lrange"]["calls"] == 1
