"""Asking and steering real Celery workers on a real redis-server."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from redis import Redis

from scaler.pool.count import Count
from scaler.workers import control as control_module
from scaler.workers.answers import HeldTasks
from scaler.workers.control import ControlUnavailable, Link, WorkerControl
from tests.scaler.brokers import Place, everywhere, everywhere_with_every_celery
from tests.scaler.workers import CeleryWorkers, celery_version

pools = pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])


@pytest.fixture
async def control(link: Link) -> AsyncIterator[WorkerControl]:
    control = WorkerControl(link)
    yield control
    await control.close()


def these(*nodes: str, queues: Sequence[str] = ("celery",)) -> dict[str, Sequence[str]]:
    return dict.fromkeys(nodes, queues)


async def answering(control: WorkerControl, workers: CeleryWorkers, *nodes: str) -> None:
    async def all_answer() -> bool:
        try:
            return (await control.consumed(nodes)).keys() == set(nodes)
        except ControlUnavailable:
            return False

    await workers.until(f"{nodes} answer", all_answer)


@pools
@pytest.mark.parametrize(
    ("place", "celery_python"),
    [("redis", "newest"), ("redis", "oldest"), pytest.param("classic", "newest", marks=pytest.mark.slow)],
    indirect=True,
)
@pytest.mark.parametrize("acks_late", [False, True])
async def test_a_worker_says_what_it_holds(
    control: WorkerControl,
    workers: CeleryWorkers,
    place: Place,
    tmp_path: Path,
    pool: str,
    acks_late: bool,
) -> None:
    """Running tasks with their acknowledgement, prefetched ones, and those of the future.

    On Redis those of the future raise the number that a worker prefetches, on RabbitMQ 4 they take it up.
    """
    gate = tmp_path / "gate"
    worker = workers.start("a", pool=pool, settings={"task_acks_late": acks_late})
    await answering(control, workers, worker.node)
    soon, later = time.time() + 600, 1200.0
    workers.publish(gate, countdown=later)
    workers.publish(gate, countdown=600)
    ids = {workers.publish(gate) for _ in range(8)}
    prefetched = (3 if acks_late else 4) - (0 if place.kind == "redis" else 2)
    if pool == "gevent":
        prefetched = 1  # full, it blocks the consumer at the first task that finds no slot
    found: dict[str, HeldTasks] = {}

    async def complete() -> bool:
        found.update(await control.tasks([worker.node]))
        held = found.get(worker.node)
        if held is None:
            return False
        return (len(held.running), held.scheduled, len(held.reserved)) == (1, 2, prefetched)

    await workers.until("one task runs, two are scheduled, the rest is prefetched", complete)
    held = found[worker.node]

    assert held.running < ids
    assert held.acknowledged == (frozenset() if acks_late else held.running)
    assert held.reserved < ids - held.running
    assert held.next_due == pytest.approx(soon, abs=10)
    assert held.due(time.time()) == Count.exactly(1 + prefetched)


@pools
@everywhere_with_every_celery
async def test_a_worker_that_stopped_finishes_what_it_has_and_takes_nothing_more(
    control: WorkerControl, workers: CeleryWorkers, place: Place, tmp_path: Path, pool: str
) -> None:
    """The queue stays as it is until the worker is told to consume again."""
    first, second = tmp_path / "first", tmp_path / "second"
    worker = workers.start("a", "--prefetch-multiplier", "1", pool=pool)
    await answering(control, workers, worker.node)
    workers.publish(first)

    async def running() -> bool:
        held = (await control.tasks([worker.node])).get(worker.node)
        return held is not None and len(held.running) == 1

    await workers.until("the task runs", running)
    assert await control.stop_consuming(these(worker.node)) == {worker.node}

    for _ in range(3):
        workers.publish(second)
    begin = time.monotonic()
    while time.monotonic() < begin + 2.5:
        held = (await control.tasks([worker.node]))[worker.node]
        assert held.due(time.time()) == Count.exactly(1)
        await asyncio.sleep(0.1)
    assert place.queued("celery") == 3

    first.touch()

    async def drained() -> bool:
        held = (await control.tasks([worker.node])).get(worker.node)
        return held is not None and held.due(time.time()) == Count.exactly(0)

    await workers.until("it finished what it had", drained)
    assert place.queued("celery") == 3
    assert await control.stop_consuming(these(worker.node)) == {worker.node}
    assert await control.consumed([worker.node]) == {worker.node: frozenset()}

    assert await control.resume(these(worker.node)) == {worker.node}
    second.touch()
    await workers.until("the queue is empty", lambda: place.queued("celery") == 0)


@everywhere
async def test_a_worker_that_consumes_from_another_queue_has_not_stopped(
    control: WorkerControl, workers: CeleryWorkers
) -> None:
    """A queue that the pool does not name is left alone, and may bring a task at any moment."""
    worker = workers.start("a", queues="mine,other")
    await answering(control, workers, worker.node)

    assert await control.stop_consuming(these(worker.node, queues=["mine"])) == frozenset()
    assert await control.consumed([worker.node]) == {worker.node: {"other"}}
    assert await control.stop_consuming(these(worker.node, queues=["mine", "other"])) == {worker.node}
    assert await control.resume(these(worker.node, queues=["mine", "other"])) == {worker.node}
    assert await control.consumed([worker.node]) == {worker.node: {"mine", "other"}}


@everywhere
async def test_only_those_that_were_named_stop(control: WorkerControl, workers: CeleryWorkers) -> None:
    """One who is not there is in no result."""
    victim, survivor = workers.start("victim"), workers.start("survivor")
    await answering(control, workers, victim.node, survivor.node)

    assert await control.stop_consuming(these(victim.node, "nobody@test")) == {victim.node}
    assert await control.consumed([victim.node, survivor.node, "nobody@test"]) == {
        victim.node: frozenset(),
        survivor.node: {"celery"},
    }
    assert (await control.tasks([survivor.node, "nobody@test"])).keys() == {survivor.node}
    assert await control.resume(these(survivor.node, "nobody@test")) == {survivor.node}


@everywhere_with_every_celery
async def test_after_the_broker_was_away_victims_stay_stopped_and_survivors_consume(
    control: WorkerControl, workers: CeleryWorkers, place: Place
) -> None:
    """Before Celery 5.7 a survivor that was once a victim has to be told again."""
    nodes = [workers.start(name).node for name in ("victim", "taken-back", "survivor")]
    victim, taken_back, survivor = nodes
    await answering(control, workers, *nodes)
    assert await control.stop_consuming(these(victim, taken_back)) == {
        victim,
        taken_back,
    }
    assert await control.resume(these(taken_back)) == {taken_back}

    place.stop()
    with pytest.raises(ControlUnavailable, match=r" at 127\.0\.0\.1:\d+.*refused"):
        await control.tasks(nodes)
    place.start()
    await answering(control, workers, *nodes)

    consumed = await control.consumed(nodes)
    remembers = {"celery"} if celery_version(workers.python) >= (5, 7) else frozenset()
    assert consumed == {victim: frozenset(), taken_back: remembers, survivor: {"celery"}}
    assert await control.stop_consuming(these(victim)) == {victim}
    assert await control.resume(these(taken_back, survivor)) == {taken_back, survivor}


@everywhere
async def test_a_worker_that_restarts_consumes_again_until_told(
    control: WorkerControl, workers: CeleryWorkers
) -> None:
    """Which is why a victim is told on every tick."""
    first = workers.start("a")
    await answering(control, workers, first.node)
    assert await control.stop_consuming(these(first.node)) == {first.node}

    first.kill()
    assert await control.stop_consuming(these(first.node)) == frozenset()
    workers.start("a")
    await answering(control, workers, first.node)
    assert await control.consumed([first.node]) == {first.node: {"celery"}}
    assert await control.stop_consuming(these(first.node)) == {first.node}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"worker_enable_remote_control": False}, id="remote control is switched off"),
        pytest.param({"control_exchange": "elsewhere"}, id="the app named the exchange otherwise"),
        pytest.param({"task_serializer": "yaml", "accept_content": ["yaml"]}, id="the app speaks no JSON"),
    ],
)
@pytest.mark.parametrize("place", ["redis", pytest.param("classic", marks=pytest.mark.slow)], indirect=True)
async def test_a_worker_that_cannot_be_asked_is_absent(
    control: WorkerControl, workers: CeleryWorkers, settings: dict[str, object]
) -> None:
    """It works, and nothing is known of it."""
    worker = workers.start("a", settings=settings)
    await workers.until("it is ready", lambda: " ready." in worker.log.read_text())
    begin = time.monotonic()

    assert await control.tasks([worker.node]) == {}
    assert await control.stop_consuming(these(worker.node)) == frozenset()
    assert await control.resume(these(worker.node)) == frozenset()
    assert time.monotonic() - begin < 3 * control_module.ANSWER_SECONDS + 1


@everywhere
async def test_a_worker_whose_main_process_hangs_is_absent_and_holds_up_nobody(
    control: WorkerControl, workers: CeleryWorkers
) -> None:
    """The others are told and answer in the same call."""
    hung, well = workers.start("hung"), workers.start("well")
    await answering(control, workers, hung.node, well.node)
    hung.signal(signal.SIGSTOP)

    assert (await control.tasks([hung.node, well.node])).keys() == {well.node}
    assert await control.stop_consuming(these(hung.node, well.node)) == {well.node}
    hung.signal(signal.SIGCONT)
    await answering(control, workers, hung.node)
    assert await control.consumed([hung.node]) == {hung.node: {"celery"}}


async def test_names_of_keys_and_channels_follow_the_apps_options(workers: CeleryWorkers, link: Link) -> None:
    """A prefix, no database in the channels' names, and another exchange."""
    options = {"global_keyprefix": "app-", "fanout_prefix": False}
    settings = {"broker_transport_options": options, "control_exchange": "app-control"}
    worker = workers.start("a", settings=settings)
    control = WorkerControl(
        Link(
            url_file=link.url_file,
            name="test",
            transport_options={**options, "visibility_timeout": 1},
            control_exchange="app-control",
        )
    )
    await answering(control, workers, worker.node)
    assert await control.stop_consuming(these(worker.node)) == {worker.node}
    await control.close()


async def test_a_rate_limited_task_is_out_of_sight_and_goes_back_to_its_queue(
    control: WorkerControl, workers: CeleryWorkers, redis: Redis
) -> None:
    """A worker that seems to have nothing loses nothing when it is removed."""
    worker = workers.start("a")
    await answering(control, workers, worker.node)
    for _ in range(2):
        workers.app.send_task("worker_app.once_an_hour")
    await workers.until("one of them is done, one is held", lambda: redis.hlen("unacked") == 1)
    await workers.until("its log says so", lambda: "succeeded" in worker.log.read_text())

    assert (await control.tasks([worker.node]))[worker.node].due(time.time()) == Count.exactly(0)
    worker.signal(signal.SIGTERM)
    await workers.until("it is gone", lambda: worker.process.poll() is not None)
    assert (redis.llen("celery"), redis.hlen("unacked")) == (1, 0)


async def test_a_long_list_of_scheduled_tasks_is_asked_for_rarely(
    control: WorkerControl,
    workers: CeleryWorkers,
    redis: Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Listing thousands of them keeps a worker's main process from its work."""
    monkeypatch.setattr(control_module, "LONG_LIST", 3)
    worker = workers.start("a")
    await answering(control, workers, worker.node)
    for _ in range(4):
        workers.publish(tmp_path / "gate", countdown=600)
    await workers.until("it holds them", lambda: redis.hlen("unacked") == 4)
    first = (await control.tasks([worker.node]))[worker.node]

    with redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("/0.celery.pidbox")
        second = (await control.tasks([worker.node]))[worker.node]
        heard = [listener.get_message(timeout=1) for _ in range(4)]

    assert (first.scheduled, second) == (4, first)
    assert len([message for message in heard if message]) == 2  # reserved and active
