"""Queues of a real RabbitMQ, filled by a real Celery, beside what is known to be in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery

from scaler.broker.amqp_channel import AmqpChannel
from scaler.broker.backlog import Backlog, Delayed
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.rabbitmq_management import Management
from scaler.broker.rabbitmq_queues import STALE_SECONDS
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from tests.rabbitmq import Vhost
from tests.scaler.brokers import QUORUM, on_rabbitmq, ready
from tests.scaler.reading import read
from tests.scaler.workers import CeleryWorkers

kinds = pytest.mark.parametrize("kind", ["classic", "quorum"])


@pytest.fixture
async def broker(vhost: Vhost, tmp_path: Path) -> AsyncIterator[BrokerByUrl]:
    reader = on_rabbitmq(vhost, "classic").reader(tmp_path)
    yield reader
    await reader.close()


@pytest.fixture
async def without_api(vhost: Vhost, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrokerByUrl]:
    """No file names a management API."""
    place = on_rabbitmq(vhost, "classic")
    place.management_url = ""
    reader = place.reader(tmp_path_factory.mktemp("without-api"))
    yield reader
    await reader.close()


@contextmanager
def app(vhost: Vhost, kind: str) -> Iterator[Celery]:
    made = Celery("producer", broker=vhost.url, set_as_current=False)
    made.conf.update(on_rabbitmq(vhost, kind).settings)
    yield made
    made.pool.force_close_all()
    made.close()


@contextmanager
def taken(vhost: Vhost, queue: str, many: int) -> Iterator[amqp.Channel]:
    """So many messages delivered to a consumer and not acknowledged."""
    where = f"127.0.0.1:{vhost.server.ports['amqp']}"
    with amqp.Connection(where, userid="admin", password="admin", virtual_host=vhost.name) as connection:
        channel = connection.channel()
        for _ in range(many):
            assert channel.basic_get(queue) is not None
        yield channel


async def until(broker: BrokerByUrl, queue: str, delivered: Count) -> Backlog:
    """The first read that says so; the table of a quorum queue is up to 5 s old."""
    deadline = time.monotonic() + 3 * STALE_SECONDS
    while True:
        found = await read(broker, queue)
        if found.delivered(queue_names := [queue]) == delivered:
            return found
        assert time.monotonic() < deadline, (delivered, found.delivered(queue_names), found)
        await asyncio.sleep(0.1)


async def known(broker: BrokerByUrl, queue: str) -> Backlog:
    """The first read that knows how long it is: one that was made a moment ago need not have a leader yet."""
    deadline = time.monotonic() + 3 * STALE_SECONDS
    while (found := await read(broker, queue)).queued([queue]).high is None:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return found


@kinds
async def test_what_is_queued_is_told_at_once(broker: BrokerByUrl, vhost: Vhost, kind: str) -> None:
    """Also of a quorum queue, whose figure in the table may be 5 s old."""
    vhost.declare("sums", kind)
    await known(broker, "sums")
    with app(vhost, kind) as producer:
        for many in range(1, 6):
            producer.send_task("add", queue="sums")
            backlog = await read(broker, "sums")

            assert backlog.failure(["sums"]) is None
            assert backlog.queued_due(["sums"]) == Count(many, many)


@kinds
async def test_what_workers_hold_is_told(broker: BrokerByUrl, vhost: Vhost, kind: str) -> None:
    """As RabbitMQ's count, for people; what of it is due is left open."""
    with app(vhost, kind) as producer:
        for _ in range(5):
            producer.send_task("add", queue="sums")
    with taken(vhost, "sums", 3) as channel:
        backlog = await until(broker, "sums", Count(3, 3))

        assert (backlog.queued(["sums"]), backlog.delivered_due(["sums"])) == (Count(2, 2), Count(0, 3))
        for tag in (1, 2, 3):
            channel.basic_ack(tag)
    backlog = await until(broker, "sums", Count(0, 0))

    assert (backlog.queued(["sums"]), backlog.delivered_due(["sums"])) == (Count(2, 2), Count(0, 0))


async def test_one_that_was_taken_since_the_table_was_made_is_not_lost(
    broker: BrokerByUrl, vhost: Vhost
) -> None:
    """It has left the queue and is not in the table: it may be with a worker."""
    vhost.declare("sums", "quorum")
    with app(vhost, "quorum") as producer:
        producer.send_task("add", queue="sums")
    deadline = time.monotonic() + 2 * STALE_SECONDS
    while vhost.row("sums")["messages_ready"] != 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    with taken(vhost, "sums", 1):
        backlog = await read(broker, "sums")

        assert backlog.queued(["sums"]) == Count(0, 0)
        assert backlog.delivered_due(["sums"]) == Count(0, 1)
        assert backlog.delivered(["sums"]) == UNKNOWN


async def test_a_queue_that_is_not_there_is_empty_because_rabbitmq_says_so(
    broker: BrokerByUrl, without_api: BrokerByUrl, vhost: Vhost
) -> None:
    for reader in (broker, without_api):
        backlog = await read(reader, "none", "sums")

        assert backlog.missing == {"none", "sums"}
        assert backlog.queued(["none"]) == Count(0, 0)
        assert backlog.failure(["none"]) is None
    vhost.declare("sums")
    assert (await read(broker, "none", "sums")).missing == {"none"}


async def test_a_queue_that_rabbitmq_leaves_out_of_its_figures_is_unknown(
    broker: BrokerByUrl, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list of figures has only the queues that answered it; the list of names has all."""
    vhost.declare("sums")
    monkeypatch.setattr(Management, "queues", _nothing)
    backlog = await read(broker, "sums", "none")

    assert (backlog.queued(["sums"]), backlog.queued(["none"])) == (UNKNOWN, Count(0, 0))
    failure = backlog.failure(["sums"])
    assert failure is not None
    assert (failure.reason, "does not answer" in failure.sentence) == (Ready.BROKER_NOT_READY, True)


async def _nothing(_: object) -> list[Any]:
    return []


async def test_a_tick_is_one_request_and_one_question_a_quorum_queue(
    broker: BrokerByUrl, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        vhost.declare(f"c{number}")
    vhost.declare("q", "quorum")
    asked: list[str] = []
    get, declare = Management._get, AmqpChannel._declared  # noqa: SLF001

    async def counted_get(self: Any, path: str, shape: Any) -> Any:
        asked.append(path.partition("?")[0])
        return await get(self, path, shape)

    def counted_declare(self: Any, queue: str) -> Any:
        asked.append(queue)
        return declare(self, queue)

    monkeypatch.setattr(Management, "_get", counted_get)
    monkeypatch.setattr(AmqpChannel, "_declared", counted_declare)
    await read(broker, "q", *(f"c{number}" for number in range(20)))

    assert asked == [f"queues/{vhost.name}", "q"]


async def test_without_the_api_what_workers_hold_is_unknown_and_said(
    without_api: BrokerByUrl, vhost: Vhost
) -> None:
    """The pool is followed as far as it goes: it may grow."""
    with app(vhost, "classic") as producer:
        for _ in range(3):
            producer.send_task("add", queue="sums")
    with taken(vhost, "sums", 1):
        backlog = await read(without_api, "sums")

    assert backlog.queued(["sums"]) == Count(2, 2)
    assert (backlog.delivered(["sums"]), backlog.delivered_due(["sums"])) == (UNKNOWN, UNKNOWN)
    assert backlog.failure(["sums"]) is None
    assert "workers are added and none removed" in backlog.remark


@pytest.fixture
def celery_with_delays(vhost: Vhost, tmp_path: Path) -> Iterator[CeleryWorkers]:
    """An app whose tasks with a countdown wait in RabbitMQ: quorum queues and a topic exchange."""
    settings = {
        **QUORUM,
        "task_default_exchange": "tasks",
        "task_default_exchange_type": "topic",
        "task_create_missing_queue_exchange_type": "topic",
    }
    workers = CeleryWorkers(vhost.url, tmp_path, settings)
    yield workers
    workers.stop()


async def test_a_task_with_a_countdown_waits_in_rabbitmq_and_is_not_due(
    broker: BrokerByUrl, without_api: BrokerByUrl, celery_with_delays: CeleryWorkers, tmp_path: Path
) -> None:
    """It is counted as such, is due when it can be at the earliest, and is then just queued."""
    workers = celery_with_delays
    worker = workers.start("a")
    await workers.until("it is ready", lambda: " ready." in worker.log.read_text())
    await until(broker, "celery", Count(0, 0))
    worker.kill()
    before = time.time()
    workers.publish(tmp_path / "gate", countdown=20)
    workers.publish(tmp_path / "gate", countdown=3600)

    async def delayed() -> bool:
        found = await read(broker, "celery")
        return (found.not_due(["celery"]), found.queued(["celery"])) == (Count(2, 2), Count(2, 2))

    await workers.until("RabbitMQ's table shows both", delayed)
    backlog = await read(broker, "celery")
    bounded = backlog.next_due_at(["celery"])
    assert backlog.queued_due(["celery"]) == Count(0, 0)
    assert backlog.delayed.of(["others"]) == Count(0, 0)
    assert bounded is not None
    assert before - 2 * STALE_SECONDS < bounded - 16 < time.time()
    blind = await read(without_api, "celery")
    assert (blind.queued(["celery"]), blind.queued_due(["celery"])) == (Count(0, 2), Count(0, 0))

    async def due() -> bool:
        return (await read(broker, "celery")).queued_due(["celery"]) == Count(1, 1)

    await workers.until("one of them is due", due)
    assert 19 < time.time() - before < 30


async def test_delayed_tasks_of_two_queues_are_a_range_for_each(
    broker: BrokerByUrl, celery_with_delays: CeleryWorkers, tmp_path: Path
) -> None:
    """RabbitMQ tells how many wait, and not for whom."""
    workers = celery_with_delays
    worker = workers.start("a", queues="celery,mails")
    await workers.until("it is ready", lambda: " ready." in worker.log.read_text())
    worker.kill()
    workers.publish(tmp_path / "gate", queue="mails", countdown=600)

    async def delayed() -> bool:
        return (await read(broker, "celery", "mails")).queued(["celery", "mails"]) == Count(1, 1)

    await workers.until("RabbitMQ's table shows it", delayed)
    backlog = await read(broker, "celery", "mails")
    assert backlog.queued(["celery"]) == backlog.queued(["mails"]) == Count(0, 1)
    assert backlog.delayed.messages == Count(1, 1)
    assert backlog.next_due_at(["mails"]) is None


async def test_without_a_delayed_delivery_nothing_is_delayed(
    broker: BrokerByUrl, without_api: BrokerByUrl, vhost: Vhost
) -> None:
    vhost.declare("sums")

    assert (await read(broker, "sums")).delayed == Delayed()
    assert (await read(without_api, "sums")).delayed.of(["sums"]) == Count(0, 0)
    assert (await read(without_api, "sums")).queued(["sums"]) == Count(0, 0)


async def test_a_restart_of_rabbitmq_is_met_by_new_connections(broker: BrokerByUrl, vhost: Vhost) -> None:
    """What was persistent is there again. Until the queue has a leader it is unknown, and never empty."""
    with app(vhost, "quorum") as producer:
        producer.send_task("add", queue="sums")
    assert (await read(broker, "sums")).queued(["sums"]) == Count(1, 1)
    vhost.server.restart()
    backlog = await known(broker, "sums")

    assert backlog.queued(["sums"]) == Count(1, 1)
    assert backlog.delivered_due(["sums"]) != Count(0, 0)
    assert ready(vhost, "sums") == 1
