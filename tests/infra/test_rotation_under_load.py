"""A new password while tasks run, with a real broker, real workers and a ledger outside of it, on loopback.

The server is started by its own script; workers roll as a Deployment rolls them: new ones with the new
password first, then a warm shutdown of the old ones. The same on a cluster: `tests/e2e/test_rotation.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from sample_app import ledger
from tests.conftest import FOUND, free_port
from tests.e2e.ledger import entries_of, judge, published_in
from tests.infra import test_rabbitmq_start, test_redis_start

ROOT = Path(__file__).parents[2]
OVERLAP_SECONDS = 60
"""Longer than two workers take to start, one after the other, on a busy machine."""
PATIENCE_SECONDS = 180
PASSWORDS = {1: "Old\"Password\\With$Signs'", 2: "NewPassword"}


class Server(Protocol):
    """One that runs with the first password."""

    def change(self) -> None:
        """Give the second, and return when it is in force."""

    def url(self, number: int) -> str: ...
    def opens(self, number: int) -> bool: ...
    def stop(self) -> None: ...


class Redis:
    def __init__(self, folder: Path) -> None:
        self._started = test_redis_start.Started(folder, free_port())
        self._give(1)
        self._started.start()

    def change(self) -> None:
        self._give(2)
        self._started.until_said("in force is password m2")

    def url(self, number: int) -> str:
        return f"redis://:{quote(PASSWORDS[number], safe='')}@127.0.0.1:{self._started.port}/0"

    def opens(self, number: int) -> bool:
        return self._started.opens(PASSWORDS[number])

    def stop(self) -> None:
        self._started.stop()

    def _give(self, number: int) -> None:
        self._started.mounted.give(
            password=PASSWORDS[number], mark=f"m{number}", overlap_seconds=str(OVERLAP_SECONDS)
        )


class RabbitMQ:
    def __init__(self, folder: Path) -> None:
        self._started = test_rabbitmq_start.Started(folder)
        self._started.give(1, PASSWORDS[1])
        self._started.start()
        self._started.until_in_force(1)

    def change(self) -> None:
        self._started.give(2, PASSWORDS[2], OVERLAP_SECONDS)
        self._started.until_in_force(2)

    def url(self, number: int) -> str:
        opened = f"celery-{number}:{quote(PASSWORDS[number], safe='')}"
        return f"amqp://{opened}@127.0.0.1:{self._started.amqp}/celery"

    def opens(self, number: int) -> bool:
        return self._started.opens(number, PASSWORDS[number])

    def stop(self) -> None:
        self._started.server.stop()


@pytest.fixture(params=[Redis, pytest.param(RabbitMQ, marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    made: Server = request.param(folder)
    yield made
    made.stop()


@dataclass(slots=True)
class Worker:
    number: int
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(slots=True)
class Fleet:
    """Workers and producers, each with the password of when it was started."""

    server: Server
    folder: Path
    workers: list[Worker] = field(default_factory=list)

    def start(self, number: int) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.log"
        name = f"w{len(self.workers)}@test"
        words = ("-n", name, "-c", "2", "--without-mingle", "--without-gossip", "-l", "INFO")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "sample_app.tasks:app", "worker", *words],
                cwd=ROOT,
                env={**os.environ, "CELERY_BROKER_URL": self.server.url(number)},
                stdout=output,
                stderr=output,
            )
        self.workers.append(Worker(number, process, log))
        until(lambda: " ready." in log.read_text(errors="replace"), f"{name} is ready:\n{log}")
        return self.workers[-1]

    def leave(self, worker: Worker) -> None:
        """As the kubelet ends a pod, with a grace period longer than any task."""
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()

    def stop(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait(10)


class Load(threading.Thread):
    """A task of 0.05 to 0.5 s ten times a second, published with the password of `number`."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.number = 1
        self.ended = threading.Event()
        self.published = 0
        self.refused = 0

    def run(self) -> None:
        apps = {number: Celery("producer", broker=self._server.url(number)) for number in PASSWORDS}
        while not self.ended.wait(0.1):
            task = f"load-{self.published + self.refused}"
            seconds = 0.05 + (self.published % 10) * 0.05
            try:
                apps[self.number].send_task(
                    "sample_app.tasks.record", (task, seconds), task_id=task, ignore_result=True, retry=False
                )
            except OperationalError:
                self.refused += 1
                continue
            ledger.published(task)
            self.published += 1
        for app in apps.values():
            with suppress(OperationalError):
                app.close()


def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


@pytest.fixture
def fleet(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    entries = tmp_path / "ledger"
    entries.mkdir()
    monkeypatch.setenv("LEDGER_DIR", str(entries))
    made = Fleet(server, tmp_path)
    yield made
    made.stop()


def lines(folder: Path) -> list[str]:
    return [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


def test_no_task_is_lost_or_run_twice(
    server: Server, fleet: Fleet, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    """None is refused either: the old password opens until nobody has it any more."""
    first = [fleet.start(1), fleet.start(1)]
    load = Load(server)
    load.start()
    until(lambda: load.published >= 30, "a load")

    server.change()
    for old in first:
        fleet.start(2)
        fleet.leave(old)
    load.number = 2
    begun = load.published
    until(lambda: not server.opens(1), "the old password is refused")
    until(lambda: load.published >= begun + 30, "a load with the new password")
    load.ended.set()
    load.join(30)

    def outcome() -> Any:
        entries = entries_of(lines(tmp_path / "ledger"))
        return judge(published_in(entries), entries)

    until(lambda: outcome().finished == load.published, "all tasks have finished")
    verdict = outcome()
    record_property(FOUND, f"rotation of {type(server).__name__} under load, on loopback: {verdict}")
    assert verdict.clean, verdict
    assert load.refused == 0
    assert server.opens(2)
