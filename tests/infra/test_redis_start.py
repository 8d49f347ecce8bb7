"""Redis' start script on a real redis-server of this machine: its users, and how a new password is taken up.

The same in a pod, and RabbitMQ's and PostgreSQL's: `tests/infra/test_servers.py`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from infra.components.server import SCRIPTS
from scaler.contract import redis_rights
from tests.conftest import free_port
from tests.infra.mounted import Mounted

OLD, NEW = "OldPassword", "New\"Password\\With$Signs'"
OVERLAP_SECONDS = 3


@dataclass(slots=True)
class Started:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    mounted: Mounted = field(init=False)

    def __post_init__(self) -> None:
        self.mounted = Mounted(self.folder / "credentials")

    def start(self) -> None:
        environment = {
            "CREDENTIALS": str(self.mounted.folder),
            "DATA": str(self.folder / "data"),
            "SCRATCH": str(self.folder),
            "PORT": str(self.port),
            "LOOK_SECONDS": "0.2",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", str(SCRIPTS / "redis.sh"), "--save", "", "--dir", str(self.folder)],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until_said("Ready to accept connections")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 15)
            self.process.wait(10)
            self.process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until_said(self, words: str) -> None:
        deadline = time.monotonic() + 20
        while words not in self.log:
            assert time.monotonic() < deadline, f"never said {words!r}:\n{self.log}"
            time.sleep(0.05)

    def client(self, password: str, user: str = "default") -> Redis:
        return Redis(port=self.port, username=user, password=password, decode_responses=True)

    def opens(self, password: str, user: str = "default") -> bool:
        with self.client(password, user) as client:
            try:
                client.llen("celery")
            except AuthenticationError:
                return False
        return True


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path, free_port())
    made.mounted.give(
        password=OLD,
        mark="m1",
        scaler_password="scaler-1",
        scaler_may=redis_rights(),
        overlap_seconds=str(OVERLAP_SECONDS),
    )
    made.start()
    yield made
    made.stop()


def test_a_new_password_opens_beside_the_old_one_which_ends_also_after_a_restart(started: Started) -> None:
    """What is connected stays; nobody is served without a password."""
    assert started.opens(OLD)
    with started.client(OLD) as connected, Redis(port=started.port) as nobody:
        connected.rpush("celery", "task")
        started.mounted.give(
            password=NEW,
            mark="m2",
            scaler_password="scaler-2",
            scaler_may=redis_rights(),
            overlap_seconds=str(OVERLAP_SECONDS),
        )
        started.until_said("in force is password m2")

        assert connected.llen("celery") == 1
        assert started.opens(OLD)
        assert started.opens(NEW)
        assert started.opens("scaler-1", "celery-scaler")
        assert started.opens("scaler-2", "celery-scaler")
        with pytest.raises(RedisError, match="authenticate"):
            nobody.ping()

    started.stop()
    started.start()

    assert started.opens(NEW)
    deadline = time.monotonic() + OVERLAP_SECONDS + 10
    while started.opens(OLD) or started.opens("scaler-1", "celery-scaler"):
        assert time.monotonic() < deadline, "the old passwords still open"
        time.sleep(0.1)
    assert started.opens(NEW)
    assert started.opens("scaler-2", "celery-scaler")


def test_the_scalers_user_reads_and_takes_changes_nothing(started: Started) -> None:
    """Its rights are taken up without a restart, too."""
    with started.client(OLD) as app, started.client("scaler-1", "celery-scaler") as scaler:
        app.rpush("celery", "task")
        assert scaler.llen("celery") == 1
        for attempt in (
            lambda: scaler.rpush("celery", "made up"),
            lambda: scaler.rpop("celery"),
            lambda: scaler.delete("celery"),
            lambda: scaler.hset("unacked", "tag", "made up"),
            lambda: scaler.srem("_kombu.binding.celery", "mails"),
            scaler.flushall,
            scaler.config_get,
            scaler.acl_list,
            lambda: scaler.eval("return 1", 0),
        ):
            with pytest.raises(NoPermissionError):
                attempt()

        started.mounted.give(
            password=OLD,
            mark="m1",
            scaler_password="scaler-1",
            scaler_may=f"{redis_rights()} -llen",
            overlap_seconds=str(OVERLAP_SECONDS),
        )
        deadline = time.monotonic() + 20
        while may(scaler.llen, "celery"):
            assert time.monotonic() < deadline, "the right is still there"
            time.sleep(0.1)
        assert app.lrange("celery", 0, -1) == ["task"]


def may(command: Callable[[str], object], key: str) -> bool:
    try:
        command(key)
    except NoPermissionError:
        return False
    return True


def test_no_password_is_an_argument_or_a_line_of_the_log(started: Started) -> None:
    processes = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout

    assert f"redis-server *:{started.port}" in processes
    for secret in (OLD, "scaler-1"):
        assert secret not in processes.replace(str(started.folder), "")
        assert secret not in started.log
