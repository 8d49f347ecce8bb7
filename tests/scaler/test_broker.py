"""Reading a real redis-server, filled by a real kombu and a real Celery."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from redis import Redis

from scaler import broker as broker_module
from scaler import not_due
from scaler import unacked as unacked_module
from scaler.backlog import Backlog, BrokerFailure
from scaler.broker import ANSWER_SECONDS, RedisBroker
from scaler.contract import Ready
from scaler.decision import UNKNOWN, Count
from scaler.redis_layout import Layout, layout_of
from tests.conftest import RedisServer, free_port


@pytest.fixture
def url_file(redis_server: RedisServer, tmp_path: Path) -> Path:
    path = tmp_path / "url"
    path.write_text(f"{redis_server.url}\n")
    return path


@pytest.fixture
async def broker(url_file: Path) -> AsyncIterator[RedisBroker]:
    reader = RedisBroker(url_file, Layout())
    yield reader
    await reader.close()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def kombu(redis_server: RedisServer) -> Iterator[Connection]:
    with Connection(redis_server.url) as connection:
        yield connection


def point(url_file: Path, url: str) -> None:
    """Change the mounted Secret."""
    url_file.write_text(url)


def pointed_at(url_file: Path) -> str:
    """`host:port/database` of the test's redis-server."""
    return url_file.read_text().strip().removeprefix("redis://")


async def read(broker: RedisBroker, *queues: str) -> Backlog:
    return await broker.read(queues, time.time())


async def failure_of(broker: RedisBroker, *queues: str) -> BrokerFailure:
    with pytest.raises(BrokerFailure) as caught:
        await broker.read(queues, time.time())
    return caught.value


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


async def test_nothing_there_is_a_zero_that_was_read(broker: RedisBroker) -> None:
    """An empty list has no key, and that reads as 0."""
    backlog = await read(broker, "sums")

    assert (backlog.queued(["sums"]), backlog.delivered(["sums"])) == (Count(0, 0), Count(0, 0))
    assert backlog.failure(["sums"]) is None


async def test_messages_of_all_priorities_count(broker: RedisBroker, redis_server: RedisServer) -> None:
    """Celery spreads ten priorities over four lists; the queue's length is their sum."""
    with Celery("sums", broker=redis_server.url) as app:
        for priority in range(10):
            app.send_task("add", queue="sums", priority=priority)
        app.send_task("add", queue="mails")

    backlog = await read(broker, "sums", "mails")

    assert backlog.queued(["sums"]) == Count(10, 10)
    assert backlog.queued(["mails"]) == Count(1, 1)
    assert backlog.queued(["sums", "mails"]) == Count(11, 11)


async def test_lengths_equal_what_kombu_counts_with_the_same_options(
    url_file: Path, redis_server: RedisServer
) -> None:
    """Separator, steps and prefix are followed to the same keys that kombu writes."""
    options = {"sep": ":", "priority_steps": list(range(10)), "global_keyprefix": "shop-"}
    reader = RedisBroker(url_file, layout_of(options))
    with Connection(redis_server.url, transport_options=options) as connection:
        queue = Queue("sums", Exchange(""), "sums")
        for priority in (0, 1, 5, 9):
            publish(connection, Exchange(""), "sums", priority=priority)
        with held(connection, queue, messages=1):
            backlog = await reader.read(["sums"], time.time())
    await reader.close()

    assert backlog.queued(["sums"]) == Count(3, 3)
    assert backlog.delivered(["sums"]) == Count(1, 1)


async def test_unacknowledged_messages_belong_to_their_queue(broker: RedisBroker, kombu: Connection) -> None:
    """One hash holds the messages of all queues; each counts for the queue it was taken from."""
    named = Queue("mails", Exchange("post", type="direct"), "urgent")
    named(kombu.default_channel).declare()
    publish(kombu, Exchange(""), "sums", times=3)
    publish(kombu, named.exchange, "urgent", times=2)

    with held(kombu, Queue("sums", Exchange(""), "sums"), messages=3), held(kombu, named, messages=2):
        backlog = await read(broker, "sums", "mails")

        assert backlog.delivered(["sums"]) == Count(3, 3)
        assert backlog.delivered(["mails"]) == Count(2, 2)


async def test_message_of_a_topic_widens_both_pools(broker: RedisBroker, kombu: Connection) -> None:
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


async def test_acknowledged_messages_are_forgotten(broker: RedisBroker, redis: Redis) -> None:
    """A tag that is gone counts no more, and what is known of it goes as well."""
    redis.hset("unacked", mapping={"t1": '["m", "", "sums"]', "t2": '["m", "", "sums"]'})
    assert (await read(broker, "sums")).delivered(["sums"]) == Count(2, 2)
    redis.hdel("unacked", "t1")

    assert (await read(broker, "sums")).delivered(["sums"]) == Count(1, 1)


async def test_bodies_are_read_once(broker: RedisBroker, redis: Redis) -> None:
    """A tag that was seen costs no second read of its body."""
    redis.hset("unacked", "t", '["m", "", "sums"]')
    await read(broker, "sums")
    redis.config_resetstat()

    for _ in range(3):
        assert (await read(broker, "sums")).delivered(["sums"]) == Count(1, 1)

    commands = redis.info("commandstats")
    assert "cmdstat_hget" not in commands
    assert commands["cmdstat_llen"]["calls"] == 12


async def test_one_tick_is_one_round_trip(broker: RedisBroker, redis: Redis) -> None:
    """1,000 queues are asked for in one write; the server sees them in a handful of reads."""
    queues = [f"q{number}" for number in range(1000)]
    await broker.read(queues, time.time())
    before = redis.info("stats")["total_reads_processed"]

    backlog = await broker.read(queues, time.time())

    reads = redis.info("stats")["total_reads_processed"] - before
    assert len(backlog.lengths) == 1000
    assert reads < 40, "Redis reads 16 kB at a time, and 4,000 LLEN are about 130 kB"


async def test_more_bodies_than_a_tick_reads_leave_a_lower_bound(
    broker: RedisBroker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is read by the next ticks; until then nobody may conclude that there is no more."""
    monkeypatch.setattr(unacked_module, "BODIES_AT_ONCE", 2)
    redis.hset("unacked", mapping={f"t{number}": '["m", "", "sums"]' for number in range(5)})

    counts = [(await read(broker, "sums")).delivered(["sums"]) for _ in range(3)]

    assert counts == [Count(2, None), Count(4, None), Count(5, 5)]


async def test_bodies_beyond_the_bytes_of_a_tick_wait_for_the_next(
    broker: RedisBroker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by bytes too; a body too large for any tick leaves its queue untold."""
    monkeypatch.setattr(unacked_module, "BYTES_AT_ONCE", 60)
    body = '["%s", "", "sums"]'
    redis.hset("unacked", mapping={"t1": body % "m" * 1, "t2": body % ("m" * 30), "huge": body % ("m" * 90)})

    first, second = [(await read(broker, "sums")).delivered(["sums"]) for _ in range(2)]

    assert first == Count(1, None)
    assert second == Count(2, 3)


async def test_too_many_unacknowledged_tags_are_not_read(
    broker: RedisBroker, redis: Redis, monkeypatch: pytest.MonkeyPatch
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
    broker: RedisBroker, redis: Redis, entry: bytes
) -> None:
    """It is there, so nobody may count it as 0; whose it is, nobody knows."""
    redis.hset("unacked", "t", entry)

    assert (await read(broker, "sums")).delivered(["sums"]) == Count(0, 1)


async def test_bindings_that_cannot_be_read_leave_a_lower_bound(broker: RedisBroker, redis: Redis) -> None:
    """A key of the wrong type is asked for again, until it can be read."""
    redis.hset("unacked", "t", '["m", "post", "urgent"]')
    redis.set("_kombu.binding.post", "not a set")
    assert (await read(broker, "mails")).delivered(["mails"]) == Count(0, None)
    redis.delete("_kombu.binding.post")
    redis.sadd("_kombu.binding.post", "urgent\x06\x16\x06\x16mails")

    assert (await read(broker, "mails")).delivered(["mails"]) == Count(1, 1)


async def test_wrong_type_makes_one_queue_unknown(broker: RedisBroker, redis: Redis) -> None:
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


async def test_wrong_type_of_the_unacked_hash_is_unknown_to_all(broker: RedisBroker, redis: Redis) -> None:
    """Lengths are still known; what workers hold is not."""
    redis.set("unacked", "no hash")

    for _ in range(2):
        backlog = await read(broker, "sums")
        assert (backlog.queued(["sums"]), backlog.delivered(["sums"])) == (Count(0, 0), UNKNOWN)
        failure = backlog.failure(["sums"])
        assert failure is not None
        assert failure.reason is Ready.BROKER_UNREADABLE


async def test_restart_of_redis_is_met_by_a_new_connection(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    """A connection that died between two ticks costs neither tick."""
    await read(broker, "sums")
    redis_server.stop()
    redis_server.start()

    assert (await read(broker, "sums")).queued(["sums"]) == Count(0, 0)


async def test_refused_connection_is_unreachable_and_comes_back(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    """Nothing is known while Redis is away, and the first read after it is a good one."""
    redis_server.stop()
    failure = await failure_of(broker, "sums")
    redis_server.start()

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert str(redis_server.port) in failure.sentence
    assert (await read(broker, "sums")).queued(["sums"]) == Count(0, 0)


async def test_black_hole_is_unreachable_in_time(url_file: Path) -> None:
    """A server that takes the connection and never answers ends the read at its deadline."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point(url_file, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        reader = RedisBroker(url_file, Layout())
        begin = time.monotonic()
        failure = await failure_of(reader, "sums")

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert "no answer within 1.5 s" in failure.sentence
    assert time.monotonic() - begin < ANSWER_SECONDS + 0.5


async def test_stopped_process_is_unreachable_and_comes_back(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    """A Redis that hangs with its connections open is told from one that is idle."""
    await read(broker, "sums")
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    failure = await failure_of(broker, "sums")
    redis_server.process.send_signal(signal.SIGCONT)

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert (await read(broker, "sums")).queued(["sums"]) == Count(0, 0)


async def test_name_that_does_not_resolve_is_unreachable(url_file: Path) -> None:
    """A wrong host name is said in a sentence."""
    point(url_file, "redis://nobody.invalid:6379/0")

    assert (await failure_of(RedisBroker(url_file, Layout()), "sums")).reason is Ready.BROKER_UNREACHABLE


async def scripted(url_file: Path, replies: list[bytes]) -> BrokerFailure | Backlog:
    """Read from a server that answers every request with these bytes."""

    answering: list[asyncio.Task[Any] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            for reply in replies:
                if not await reader.read(65536):
                    break
                writer.write(reply)
                await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    port = free_port()
    point(url_file, f"redis://127.0.0.1:{port}/0")
    reader = RedisBroker(url_file, Layout(priority_steps=(0,)))
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        try:
            return await reader.read(["sums"], time.time())
        except BrokerFailure as failure:
            return failure
        finally:
            await reader.close()
            await asyncio.wait_for(asyncio.gather(*(task for task in answering if task)), 5)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(b"-LOADING Redis is loading\r\n", Ready.BROKER_NOT_READY, id="loading its data"),
        pytest.param(b"-MASTERDOWN link down\r\n", Ready.BROKER_NOT_READY, id="a replica without its master"),
        pytest.param(b"-READONLY replica\r\n", Ready.BROKER_NOT_READY, id="a replica"),
        pytest.param(b"-CLUSTERDOWN hash slot\r\n", Ready.BROKER_NOT_READY, id="a cluster that is down"),
        pytest.param(b"-BUSY script running\r\n", Ready.BROKER_NOT_READY, id="busy with a script"),
        pytest.param(b"-MISCONF cannot persist\r\n", Ready.BROKER_NOT_READY, id="a full disk"),
        pytest.param(b"-NOAUTH Authentication required.\r\n", Ready.BROKER_REFUSED, id="no password given"),
        pytest.param(b"-NOPERM no permissions\r\n", Ready.BROKER_REFUSED, id="no rights to the key"),
        pytest.param(b"-MOVED 3999 127.0.0.1:1\r\n", Ready.BROKER_UNREADABLE, id="a cluster's redirection"),
        pytest.param(b"-ERR unknown command\r\n", Ready.BROKER_UNREADABLE, id="not Redis at all"),
        pytest.param(b":-1\r\n", Ready.BROKER_UNREADABLE, id="a negative length"),
        pytest.param(b"$3\r\nnan\r\n", Ready.BROKER_UNREADABLE, id="a length that is a text"),
        pytest.param(b"*0\r\n", Ready.BROKER_UNREADABLE, id="a length that is a list"),
    ],
)
async def test_useless_answer_is_unknown_with_its_reason(url_file: Path, reply: bytes, reason: Ready) -> None:
    """Whatever is answered in the place of a length is not a length, and not 0."""
    found = await scripted(url_file, [reply + b":0\r\n", b"*0\r\n*0\r\n"])

    if isinstance(found, Backlog):
        assert found.queued(["sums"]) == UNKNOWN
        failure = found.failure(["sums"])
    else:
        failure = found
    assert failure is not None
    assert failure.reason is reason


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x01\x02\r\n", b""])
async def test_bytes_that_are_no_protocol_are_a_failure(url_file: Path, reply: bytes) -> None:
    """A port that speaks something else gives no number."""
    assert isinstance(await scripted(url_file, [reply]), BrokerFailure)


async def test_huge_length_is_a_number(url_file: Path) -> None:
    """2^63 - 1 is what Redis could say, and the bounds of the decision take care of it."""
    found = await scripted(url_file, [b":9223372036854775807\r\n:0\r\n", b"*0\r\n*0\r\n"])

    assert isinstance(found, Backlog)
    assert found.queued(["sums"]) == Count.exactly(2**63 - 1)


async def test_password_is_needed_wrong_rotated_and_never_told(url_file: Path, redis: Redis) -> None:
    """A Secret that changes is read again without a restart, and no sentence holds what is in it."""
    base = pointed_at(url_file)
    reader = RedisBroker(url_file, Layout())
    await read(reader, "sums")
    redis.config_set("requirepass", "s3cret-marker")
    redis.client_kill_filter(_type="normal", skipme=True)

    missing = await failure_of(reader, "sums")
    point(url_file, f"redis://:wr0ng-marker@{base}")
    wrong = await failure_of(reader, "sums")
    point(url_file, f"redis://:s3cret-marker@{base}")
    backlog = await read(reader, "sums")
    await reader.close()

    assert (missing.reason, wrong.reason) == (Ready.BROKER_REFUSED, Ready.BROKER_REFUSED)
    assert "marker" not in missing.sentence + wrong.sentence + repr(reader.__dict__)
    assert backlog.queued(["sums"]) == Count(0, 0)


async def test_user_without_rights_is_refused(url_file: Path, redis: Redis) -> None:
    """An ACL that allows some keys leaves those exact and names the others."""
    redis.acl_setuser(
        "scaler", enabled=True, passwords=["+pw"], keys=["sums*", "unacked"], commands=["+@all"]
    )
    point(url_file, f"redis://scaler:pw@{pointed_at(url_file)}")
    reader = RedisBroker(url_file, Layout())
    backlog = await read(reader, "sums", "mails")
    await reader.close()

    assert backlog.queued(["sums"]) == Count(0, 0)
    failure = backlog.failure(["mails"])
    assert failure is not None
    assert failure.reason is Ready.BROKER_REFUSED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("amqp://u:pw-marker@h:5672//", "redis:// or rediss://, not amqp", id="another broker"),
        pytest.param("redis://:pw-marker@h:port/0", "form", id="a port that is no number"),
        pytest.param("redis://:pw-marker@h:6379/zero", "form", id="a database that is no number"),
        pytest.param("pw-marker", "redis:// or rediss://", id="no URL at all"),
        pytest.param("", "redis:// or rediss://", id="an empty file"),
    ],
)
async def test_url_of_no_use_is_said_without_repeating_it(url_file: Path, text: str, words: str) -> None:
    """The sentence says what a URL looks like, and nothing of what was given."""
    point(url_file, text)
    failure = await failure_of(RedisBroker(url_file, Layout()), "sums")

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert words in failure.sentence
    assert "marker" not in failure.sentence


async def test_missing_url_file_is_unreachable(tmp_path: Path) -> None:
    """A Secret that is not there yet is an outage like another."""
    failure = await failure_of(RedisBroker(tmp_path / "none", Layout()), "sums")

    assert failure.reason is Ready.BROKER_UNREACHABLE


async def test_one_connection_is_used(broker: RedisBroker, redis: Redis) -> None:
    """However many ticks and failures, Redis sees one client of the scaler."""
    for _ in range(5):
        await read(broker, "sums")
    before = len(redis.client_list())
    redis.client_kill_filter(_type="normal", skipme=True)
    await read(broker, "sums")

    assert len(redis.client_list()) == before == 2


IN_AN_HOUR = 3600


def send(app_url: str, *countdowns: float | None, queue: str = "sums") -> None:
    with Celery("producer", broker=app_url, set_as_current=False) as app:
        for countdown in countdowns:
            app.send_task("work", queue=queue, countdown=countdown, ignore_result=True)


async def test_what_is_not_due_is_told_apart_in_a_list(
    broker: RedisBroker, redis_server: RedisServer
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


async def test_what_is_not_due_becomes_due(broker: RedisBroker, redis_server: RedisServer) -> None:
    """The same message, an hour later."""
    send(redis_server.url, IN_AN_HOUR)

    later = await broker.read(["sums"], time.time() + IN_AN_HOUR + 5)

    assert (later.queued_due(["sums"]), later.not_due(["sums"])) == (Count(1, 1), Count(0, 0))
    assert later.next_due_at(["sums"]) is None


async def test_long_lists_count_as_due(
    broker: RedisBroker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a long list each tick would cost more than it tells: nobody may rest on what is in it."""
    monkeypatch.setattr(not_due, "LIST_LOOKED_AT", 2)
    send(redis_server.url, IN_AN_HOUR, IN_AN_HOUR, IN_AN_HOUR)
    send(redis_server.url, IN_AN_HOUR, queue="mails")

    backlog = await read(broker, "sums", "mails")

    assert (backlog.queued_due(["sums"]), backlog.not_due(["sums"])) == (Count(3, 3), Count(0, None))
    assert (backlog.queued_due(["mails"]), backlog.not_due(["mails"])) == (Count(0, 0), Count(1, 1))


async def test_what_is_held_and_not_due_is_told_apart(broker: RedisBroker, redis: Redis) -> None:
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


async def test_idle_costs_one_round_trip_and_a_short_list_two_more(broker: RedisBroker, redis: Redis) -> None:
    """Bodies of a list are read only where there are any."""
    await read(broker, "sums")
    redis.config_resetstat()
    await read(broker, "sums")
    idle = redis.info("commandstats")
    redis.lpush("sums", '{"headers": {}}')
    await read(broker, "sums")

    assert not {"cmdstat_lrange", "cmdstat_memory|usage"} & idle.keys()
    assert redis.info("commandstats")["cmdstat_lrange"]["calls"] == 1
