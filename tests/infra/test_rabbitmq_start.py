"""RabbitMQ's start script on a real RabbitMQ 4 of the tests' own: its users, and how new ones are taken up.

The same in a pod, and Redis' and PostgreSQL's: `tests/infra/test_servers.py`.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp
import pytest

from infra.components import rabbitmq
from infra.components.server import SCRIPTS
from tests import trixie
from tests.conftest import free_port
from tests.infra.conftest import settings
from tests.infra.mounted import Mounted

OLD, NEW = "Old\"Password\\With$Signs'", "NewPassword"
OVERLAP_SECONDS = 15
"""Longer than three logins, an import and a look take on a busy machine."""
PATIENCE_SECONDS = 90


@dataclass(slots=True)
class Started:
    folder: Path
    amqp: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    mounted: Mounted = field(init=False)
    server: trixie.Server = field(init=False)

    def __post_init__(self) -> None:
        data = self.folder / "data"
        data.mkdir()
        self.mounted = Mounted(data / "credentials")
        self.server = trixie.Server(data, self.folder / "log")

    def give(self, number: int, password: str, overlap_seconds: int = OVERLAP_SECONDS) -> None:
        running = {key.replace("-", "_"): text for key, text in self._program.running.items()}
        self.mounted.give(
            **running,
            username=f"celery-{number}",
            password=password,
            scaler_username=f"celery-scaler-{number}",
            scaler_password=f"scaler-{number}",
            mark=f"m{number}",
            overlap_seconds=str(overlap_seconds),
        )

    def start(self) -> None:
        shutil.copy(SCRIPTS / "rabbitmq.sh", self.folder / "data" / "start.sh")
        environment = {
            **self._program.env,
            "CREDENTIALS": "/data/credentials",
            "DATA": "/data",
            "SCRATCH": "/data",
            "LOOK_SECONDS": "1",
            "PORT": str(self.amqp),
            "LANG": "C.UTF-8",
            "PATH": "/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin",
            "RABBITMQ_NODENAME": f"start-{self.amqp}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(free_port()),
        }
        own = [f"listeners.tcp.1 = 127.0.0.1:{self.amqp}", f"management.tcp.port = {self.http}"]
        self.server.start(["sh", "/data/start.sh", *self._program.arguments, *own], environment)

    @property
    def _program(self) -> Any:
        return rabbitmq.program(settings("local", {"broker": "rabbitmq", "queueType": "quorum"}))

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, fact: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not fact():
            assert time.monotonic() < deadline, f"{what}: never\n{self.log[-4000:]}"
            time.sleep(0.2)

    def until_in_force(self, number: int) -> None:
        said = f"celery-fleet: in force is password m{number}"
        self.until(lambda: self.log.splitlines()[-1:] == [said] or said in self.log, said)

    def opens(self, number: int, password: str) -> bool:
        host = f"127.0.0.1:{self.amqp}"
        connection = amqp.Connection(host, f"celery-{number}", password, virtual_host="celery")
        try:
            connection.connect()
        except amqp.exceptions.AccessRefused:
            return False
        connection.close()
        return True

    def may_declare(self, user: str, password: str, queue: str) -> bool:
        host = f"127.0.0.1:{self.amqp}"
        with amqp.Connection(host, user, password, virtual_host="celery") as connection:
            try:
                connection.channel().queue_declare(queue, durable=True, auto_delete=False)
            except amqp.exceptions.AccessRefused:
                return False
        return True

    def asked(self, path: str, user: str, password: str) -> Any:
        """The management API's answer; None where it does not let the user in."""
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        address = f"http://127.0.0.1:{self.http}/api/{path}"
        request = urllib.request.Request(address, headers={"Authorization": f"Basic {login}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # of loopback
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            if refused.code == 401:
                return None
            raise


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path)
    made.give(1, OLD)
    made.start()
    try:
        made.until_in_force(1)
        yield made
    finally:
        made.server.stop()


def test_a_new_user_works_beside_the_old_one_which_goes_also_after_a_restart(started: Started) -> None:
    """Nobody else gets in; the scaler declares queues of its own only; queues are quorum by default."""
    assert started.opens(1, OLD)
    assert not started.opens(1, "wrong")
    assert started.asked("whoami", "guest", "guest") is None
    assert started.may_declare("celery-1", OLD, "celery")
    assert started.may_declare("celery-scaler-1", "scaler-1", "celery-fleet.answers")
    assert not started.may_declare("celery-scaler-1", "scaler-1", "mails")
    (vhost,) = started.asked("vhosts", "celery-scaler-1", "scaler-1")
    assert (vhost["name"], vhost["default_queue_type"]) == ("celery", "quorum")

    started.give(2, NEW)
    started.until_in_force(2)

    assert started.opens(1, OLD)
    assert started.opens(2, NEW)
    assert started.asked("whoami", "celery-scaler-2", "scaler-2")["name"] == "celery-scaler-2"

    started.server.stop()
    started.start()
    started.until(lambda: started.log.count("in force is password m2") == 2, "started again")

    assert started.opens(2, NEW)
    started.until(lambda: not started.opens(1, OLD), "the old user is gone")
    started.until(lambda: started.asked("whoami", "celery-scaler-1", "scaler-1") is None, "the scaler's too")
    assert started.opens(2, NEW)
    assert OLD not in started.log
    assert NEW not in started.log
