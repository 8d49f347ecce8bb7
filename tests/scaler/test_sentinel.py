"""A Redis with a replica and three Sentinels, all real: the scaler follows the master that they name."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from scaler.broker.backlog import BrokerFailure
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import layout_of
from scaler.broker.url import UrlFile
from scaler.contract import Ready
from scaler.pool.count import Count
from scaler.workers.control import ControlUnavailable, WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Link
from tests.conftest import RedisServer, free_port
from tests.scaler.reading import failure_of, read
from tests.scaler.workers import CeleryWorkers

MASTER = "tasks"
DOWN_MILLISECONDS = 1000
OPTIONS = ("--requirepass", "pw", "--masterauth", "pw", "--repl-diskless-sync-delay", "0")


@dataclass(slots=True)
class Watched:
    """A master, its replica, and who watches them, with a password for each kind."""

    folder: Path
    servers: list[RedisServer] = field(default_factory=list)
    sentinels: list[RedisServer] = field(default_factory=list)

    def start(self) -> None:
        for name in ("first", "second"):
            server = RedisServer(free_port(), self._folder(name))
            self.servers.append(server)
            follows = ["--replicaof", f"127.0.0.1 {self.servers[0].port}"] if name == "second" else []
            server.start(*OPTIONS, *follows)
        for number in range(3):
            sentinel = RedisServer(free_port(), self._folder(f"sentinel-{number}"))
            self.sentinels.append(sentinel)
            settings = sentinel.folder / "sentinel.conf"
            settings.write_text(
                f"port {sentinel.port}\ndir {sentinel.folder}\nrequirepass sentinel-pw\n"
                f"sentinel sentinel-pass sentinel-pw\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0].port} 2\n"
                f"sentinel auth-pass {MASTER} pw\n"
                f"sentinel down-after-milliseconds {MASTER} {DOWN_MILLISECONDS}\n"
                f"sentinel failover-timeout {MASTER} 5000\n"
            )
            sentinel.run(str(settings), "--sentinel")

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://:pw@127.0.0.1:{sentinel.port}/0" for sentinel in self.sentinels)

    @property
    def options(self) -> dict[str, Any]:
        return {"master_name": MASTER, "sentinel_kwargs": {"password": "sentinel-pw"}}

    def ready_to_fail_over(self) -> bool:
        """Each Sentinel knows the other two and the replica, which has all that the master has."""
        for sentinel in self.sentinels:
            with Redis(port=sentinel.port, password="sentinel-pw") as client:
                state = client.sentinel_master(MASTER)
                if (state["num-other-sentinels"], state["num-slaves"]) != (2, 1):
                    return False
        with Redis(port=self.servers[1].port, password="pw") as replica:
            return bool(replica.info("replication")["master_link_status"] == "up")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    try:
        made.start()
        yield made
    finally:
        for server in (*made.sentinels, *made.servers):
            server.stop()


@pytest.fixture
def file(watched: Watched, tmp_path: Path) -> UrlFile:
    path = tmp_path / "url"
    path.write_text(watched.url)
    return UrlFile(path)


@pytest.fixture
def watched_workers(watched: Watched, tmp_path: Path) -> Iterator[CeleryWorkers]:
    workers = CeleryWorkers(watched.url, tmp_path, {"broker_transport_options": watched.options})
    yield workers
    workers.stop()


@pytest.fixture
async def broker(watched: Watched, file: UrlFile) -> AsyncIterator[BrokerByUrl]:
    reader = BrokerByUrl(file, layout_of(watched.options))
    yield reader
    await reader.close()


async def known_again(broker: BrokerByUrl, workers: CeleryWorkers) -> tuple[Count, set[Ready]]:
    """The first thing that is known after a failover began, and the reasons for which nothing was."""
    found: list[Count] = []
    reasons: set[Ready] = set()

    async def read_again() -> bool:
        try:
            found.append((await read(broker, "celery")).queued(["celery"]))
        except BrokerFailure as failure:
            reasons.add(failure.reason)
        return bool(found)

    await workers.until("the broker can be read again", read_again)
    return found[0], reasons


async def test_after_a_failover_everything_goes_by_the_new_master(
    watched: Watched, file: UrlFile, broker: BrokerByUrl, watched_workers: CeleryWorkers, tmp_path: Path
) -> None:
    """Until there is one nothing is known, and never 0; then workers are heard and answer again."""
    workers = watched_workers
    link = Link(url_file=file, name="test", transport_options=watched.options)
    control, listener = WorkerControl(link), HeartbeatListener(link)
    listener.start()
    worker = workers.start("a", queues="others")
    await workers.until("Sentinels and replica are there", watched.ready_to_fail_over)
    await workers.until("the worker is heard", lambda: worker.node in listener.heard().last)
    await publish(watched, workers, tmp_path)

    first = watched.servers[0]
    assert first.process is not None
    first.process.kill()
    killed = time.time()
    found, reasons = await known_again(broker, workers)
    again = time.time()

    async def answered() -> bool:
        try:
            answers = await control.consumed([worker.node])
        except ControlUnavailable:
            return False
        return answers.keys() == {worker.node} and listener.heard().last[worker.node].at > again

    await workers.until("the worker is heard and answers", answered, 60)
    print(f"read {again - killed:.1f} s after the master died, answers after {time.time() - killed:.1f} s")

    assert found == Count(3, 3)
    assert reasons <= {Ready.BROKER_UNREACHABLE, Ready.BROKER_NOT_READY}
    listener.close()
    await control.close()


async def test_master_that_was_cut_off_is_left_for_the_one_that_the_sentinels_name(
    watched: Watched, broker: BrokerByUrl, watched_workers: CeleryWorkers, tmp_path: Path
) -> None:
    """Also once it is back, for the moment in which it takes itself for the master."""
    workers, first = watched_workers, watched.servers[0]
    await workers.until("Sentinels and replica are there", watched.ready_to_fail_over)
    await publish(watched, workers, tmp_path)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    try:
        found, _ = await known_again(broker, workers)
    finally:
        first.process.send_signal(signal.SIGCONT)
    with Redis(port=watched.servers[1].port, password="pw") as master:
        master.delete("celery")

    assert found == Count(3, 3)
    assert (await read(broker, "celery")).queued(["celery"]) == Count(0, 0)
    await workers.until("the old master is a replica", lambda: role(first) == "slave")
    assert (await read(broker, "celery")).queued(["celery"]) == Count(0, 0)


async def publish(watched: Watched, workers: CeleryWorkers, folder: Path) -> None:
    """Three tasks that the replica has, too."""
    for _ in range(3):
        workers.publish(folder / "gate")
    with (
        Redis(port=watched.servers[0].port, password="pw") as master,
        Redis(port=watched.servers[1].port, password="pw") as replica,
    ):
        await workers.until(
            "the replica has them", lambda: (master.llen("celery"), replica.llen("celery")) == (3, 3)
        )


def role(server: RedisServer) -> str:
    with Redis(port=server.port, password="pw") as client:
        return str(client.info("replication")["role"])


async def test_one_sentinel_of_three_is_enough(watched: Watched, broker: BrokerByUrl) -> None:
    """Two that are away or hang cost a part of a read's time."""
    assert watched.sentinels[1].process is not None
    watched.sentinels[0].stop()
    watched.sentinels[1].process.send_signal(signal.SIGSTOP)
    try:
        assert (await read(broker, "celery")).queued(["celery"]) == Count(0, 0)
    finally:
        watched.sentinels[1].process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("options", "reason", "words"),
    [
        pytest.param(
            {"master_name": "other"}, Ready.BROKER_NOT_READY, "no master named 'other'", id="no master"
        ),
        pytest.param({"sentinel_kwargs": {}}, Ready.BROKER_REFUSED, "credentials", id="no password for them"),
    ],
)
async def test_wrong_options_are_said(
    watched: Watched, file: UrlFile, options: dict[str, Any], reason: Ready, words: str
) -> None:
    reader = BrokerByUrl(file, layout_of(watched.options | options))
    failure = await failure_of(reader, "celery")
    await reader.close()

    assert (failure.reason, words in failure.sentence) == (reason, True), failure.sentence
