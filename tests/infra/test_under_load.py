"""What happens to a broker while tasks run, with real workers and a ledger outside of it, on loopback.

A new password: the server is started by its own script; workers roll as a Deployment rolls them, new ones
with the new password first, then a warm shutdown of the old ones. And a Redis whose Sentinels fail it over.
The same in pods: `tests/e2e/test_rotation.py`, `tests/e2e/test_external.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest

from infra.recording import record
from tests.conftest import FOUND, free_port
from tests.e2e.ledger import Verdict, judge, of_batch, published_in
from tests.infra import test_rabbitmq_start, test_redis_start
from tests.infra.test_backends import EXTERNAL_SECRETS, chosen, deployments
from tests.infra.under_load import Fleet, Load, entries_in, until
from tests.scaler.test_sentinel import Watched

OVERLAP_SECONDS = 60
"""Longer than two workers take to start, one after the other, on a busy machine."""
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


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ledger"
    folder.mkdir()
    monkeypatch.setenv("LEDGER_DIR", str(folder))
    return folder


@pytest.fixture
def fleet(entries: Path, tmp_path: Path) -> Iterator[Fleet]:
    assert entries.is_dir()
    made = Fleet(tmp_path)
    yield made
    made.stop()


def test_no_task_is_lost_or_run_twice(
    server: Server, fleet: Fleet, entries: Path, record_property: Callable[[str, Any], None]
) -> None:
    """None is refused either: the old password opens until nobody has it any more."""
    old, new = server.url(1), server.url(2)
    first = [fleet.start(old), fleet.start(old)]
    load = Load({"old": old, "new": new})
    load.start()
    until(lambda: load.published >= 30, "a load")

    server.change()
    for worker in first:
        fleet.start(new)
        fleet.leave(worker)
    load.named = "new"
    begun = load.published
    until(lambda: not server.opens(1), "the old password is refused")
    until(lambda: load.published >= begun + 30, "a load with the new password")
    load.end()

    def verdict() -> Verdict:
        found = entries_in(entries)
        return judge(published_in(found), found)

    until(lambda: verdict().finished == load.published, "all tasks have finished")
    record_property(FOUND, f"rotation of {type(server).__name__} under load, on loopback: {verdict()}")
    assert verdict().clean, verdict()
    assert load.refused == 0
    assert server.opens(2)


@pytest.mark.slow
def test_what_a_sentinels_failover_loses_is_counted(
    tmp_path: Path, entries: Path, record_property: Callable[[str, Any], None]
) -> None:
    """Redis replicates when it has answered, so what it has just taken may go with it: that is printed. The
    workers, with what the program gives them, go on by the new master, and every task of afterwards runs."""
    watched = Watched(tmp_path)
    choice = {**EXTERNAL_SECRETS, "sampleApp": "false", "visibilityTimeoutSeconds": "30"}
    choice["brokerTransportOptions"] = json.dumps(watched.options)
    command = deployments(record(chosen(choice)))["default-celery-worker"]["containers"][0]["command"]
    fleet = Fleet(tmp_path, command[command.index("--") :])
    try:
        watched.start()
        until(watched.ready_to_fail_over, "the Sentinels know each other")
        fleet.start(watched.url)
        fleet.start(watched.url)
        load = Load({"before": watched.url, "after": watched.url}, watched.options)
        load.start()
        until(lambda: load.published >= 50, "a load")

        master = watched.servers[0].process
        assert master is not None
        master.kill()
        killed, refused = time.monotonic(), load.refused
        until(lambda: load.refused > refused or load.published > 100, "the master is missed")
        begun = load.published
        until(lambda: load.published > begun, "a new master takes tasks")
        away = time.monotonic() - killed
        load.named = "after"
        begun = load.published
        until(lambda: load.published >= begun + 50, "a load by the new master")
        load.end()

        def verdict(batch: str) -> Verdict:
            found = entries_in(entries)
            return judge(published_in(found, batch), of_batch(found, batch))

        until(lambda: not verdict("after").lost, "every task of afterwards has finished")
        found = f"before {verdict('before')}; after {verdict('after')}; {load.refused} refused meanwhile"
        record_property(
            FOUND, f"Sentinel failover on loopback, taking tasks again after {away:.1f} s: {found}"
        )
        assert not verdict("after").lost
    finally:
        fleet.stop()
        for server in (*watched.sentinels, *watched.servers):
            server.stop()
