"""Unacknowledged messages of a real kombu consumer, and whose they are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from redis import Redis

from scaler.broker import redis_broker as broker_module
from scaler.broker import unacked as unacked_module
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import layout_of
from scaler.broker.url import UrlFile
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from tests.conftest import RedisServer
from tests.scaler.reading import read


def publish(
    connection: Connection, exchange: Exchange, routing_key: str, times: int = 1, **kwargs: Any
) -> None:
    with connection.channel() as channel:
        producer = Producer(channel, exchange=exchange, auto_declare=False)
        for _ in range(times):
            producer.publish("x", routing_key=routing_key, **kwargs)


@contextlib.contextmanager
def held(connection: Connection, *queues: Queue, messages: int) -> Iterator[None]:
    """A consumer that takes so many messages, and neither acknowledges nor returns them till the end."""
    taken: list[object] = []
    with connection.channel() as channel:
        consumer = Consumer(
            channel, queues=list(queues), on_message=taken.append, accept=["json"], prefetch_count=messages
        )
        with consumer:
            deadline = time.monotonic() + 10
            while len(taken) < messages and time.monotonic() < deadline:
                connection.drain_events(timeout=10)
            assert len(taken) == messages
            yield


async def test_unacknowledged_messages_belong_to_their_queue(broker: BrokerByUrl, kombu: Connection) -> None:
    """One hash holds the messages of all queues; each counts for the queue it was taken from."""
    named = Queue("mails", Exchange("post", type="direct"), "urgent")
    named(kombu.default_channel).declare()
    publish(kombu, Exchange(""), "sums", times=3)
    publish(kombu, named.exchange, "urgent", times=2)

    with held(kombu, Queue("sums", Exchange(""), "sums"), messages=3), held(kombu, named, messages=2):
        backlog = await read(broker, "sums", "mails")

        assert backlog.delivered(["sums"]) == Count(3, 3)
        assert backlog.delivered(["mails"]) == Count(2, 2)


async def test_message_of_a_topic_widens_both_pools(broker: BrokerByUrl, kombu: Connection) -> None:
    """Both queues got a copy under one tag: which one is held cannot be told, so each may hold it."""
    news = Exchange("news", type="topic")
    one, every = Queue("one", news, "a.*"), Queue("every", news, "#")
    for queue in (one, every):
        queue(kombu.default_channel).declare()
    publish(kombu, news, "a.b")

    with held(kombu, one, messages=1):
        backlog = await read(broker, "one", "every")

        assert backlog.delivered(["one"]) == Count(0, 1)
        assert backlog.delivered(["every"]) == Count(0, 1)
        assert backlog.delivered(["one", "every"]) == Count(1, 2)


async def test_acknowledged_messages_are_forgotten(broker: BrokerByUrl, redis: Redis) -> None:
    """A tag that is gone counts no more, and what is known of it goes as well."""
    redis.hset("unacked", mapping={"t1": '["m", "", "sums"]', "t2": '["m", "", "sums"]'})
    assert (await read(broker, "sums")).delivered(["sums"]) == Count(2, 2)
    redis.hdel("unacked", "t1")

    assert (await read(broker, "sums")).delivered(["sums"]) == Count(1, 1)


async def test_bodies_are_read_once(broker: BrokerByUrl, redis: Redis) -> None:
    """A tag that was seen costs no second read of its body."""
    redis.hset("unacked", "t", '["m", "", "sums"]')
    await read(broker, "sums")
    redis.config_resetstat()

    for _ in range(3):
        assert (await read(broker, "sums")).delivered(["sums"]) == Count(1, 1)

    commands = redis.info("commandstats")
    assert "cmdstat_hget" not in commands
    assert commands["cmdstat_llen"]["calls"] == 12


async def test_more_bodies_than_a_tick_reads_leave_a_lower_bound(
    broker: BrokerByUrl, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is read by the next ticks; until then nobody may conclude that there is no more."""
    monkeypatch.setattr(unacked_module, "BODIES_AT_ONCE", 2)
    redis.hset("unacked", mapping={f"t{number}": '["m", "", "sums"]' for number in range(5)})

    counts = [(await read(broker, "sums")).delivered(["sums"]) for _ in range(3)]

    assert counts == [Count(2, None), Count(4, None), Count(5, 5)]


async def test_bodies_beyond_the_bytes_of_a_tick_wait_for_the_next(
    broker: BrokerByUrl, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by bytes too; a body too large for any tick leaves its queue untold."""
    monkeypatch.setattr(unacked_module, "BYTES_AT_ONCE", 60)
    body = '["%s", "", "sums"]'
    redis.hset("unacked", mapping={"t1": body % "m" * 1, "t2": body % ("m" * 30), "huge": body % ("m" * 90)})

    first, second = [(await read(broker, "sums")).delivered(["sums"]) for _ in range(2)]

    assert first == Count(1, None)
    assert second == Count(2, 3)


async def test_too_many_unacknowledged_tags_are_not_read(
    broker: BrokerByUrl, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the cap only what is queued is known: at least 0, with no upper bound."""
    monkeypatch.setattr(broker_module, "TAGS_AT_ONCE", 2)
    redis.hset("unacked", mapping={f"t{number}": '["m", "", "sums"]' for number in range(3)})
    redis.lpush("sums", "x")

    for _ in range(2):
        backlog = await read(broker, "sums")
        assert (backlog.queued(["sums"]), backlog.delivered(["sums"])) == (Count(1, 1), UNKNOWN)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(b"\xff\x00garbage", id="bytes that are no JSON"),
        pytest.param(b'{"not": "kombu"}', id="JSON of another form"),
        pytest.param(b'["m", "nowhere", "key"]', id="an exchange without a binding"),
    ],
)
async def test_message_without_a_queue_may_be_anybodys(
    broker: BrokerByUrl, redis: Redis, entry: bytes
) -> None:
    """It is there, so nobody may count it as 0; whose it is, nobody knows."""
    redis.hset("unacked", "t", entry)

    assert (await read(broker, "sums")).delivered(["sums"]) == Count(0, 1)


async def test_bindings_that_cannot_be_read_leave_a_lower_bound(broker: BrokerByUrl, redis: Redis) -> None:
    """A key of the wrong type is asked for again, until it can be read."""
    redis.hset("unacked", "t", '["m", "post", "urgent"]')
    redis.set("_kombu.binding.post", "not a set")
    assert (await read(broker, "mails")).delivered(["mails"]) == Count(0, None)
    redis.delete("_kombu.binding.post")
    redis.sadd("_kombu.binding.post", "urgent\x06\x16\x06\x16mails")

    assert (await read(broker, "mails")).delivered(["mails"]) == Count(1, 1)


async def test_lengths_equal_what_kombu_counts_with_the_same_options(
    url_file: Path, redis_server: RedisServer
) -> None:
    """Separator, steps and prefix are followed to the same keys that kombu writes."""
    options = {"sep": ":", "priority_steps": list(range(10)), "global_keyprefix": "shop-"}
    reader = BrokerByUrl(UrlFile(url_file), layout_of(options))
    with Connection(redis_server.url, transport_options=options) as connection:
        queue = Queue("sums", Exchange(""), "sums")
        for priority in (0, 1, 5, 9):
            publish(connection, Exchange(""), "sums", priority=priority)
        with held(connection, queue, messages=1):
            backlog = await reader.read(["sums"], time.time())
    await reader.close()

    assert backlog.queued(["sums"]) == Count(3, 3)
    assert backlog.delivered(["sums"]) == Count(1, 1)


async def test_wrong_type_of_the_unacked_hash_is_unknown_to_all(broker: BrokerByUrl, redis: Redis) -> None:
    """Lengths are still known; what workers hold is not."""
    redis.set("unacked", "no hash")

    for _ in range(2):
        backlog = await read(broker, "sums")
        assert (backlog.queued(["sums"]), backlog.delivered(["sums"])) == (Count(0, 0), UNKNOWN)
        failure = backlog.failure(["sums"])
        assert failure is not None
        assert failure.reason is Ready.BROKER_UNREADABLE
