"""What the program gives workers and producers for a broker over TLS, tried by real ones on loopback.

With an authority that the system does not know; and with another one, which must not be enough.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.components import external
from infra.recording import record
from tests.conftest import RedisServer, free_port
from tests.devcluster import pki
from tests.infra.conftest import PASSWORD
from tests.infra.test_backends import EXTERNAL, chosen, deployments, environment, secrets
from tests.rabbitmq import PASSWORD as OF_RABBITMQ
from tests.rabbitmq import USER, Vhost

APP = """
import os, pathlib
from celery import Celery

app = Celery("app")
app.conf.broker_connection_max_retries = 0
app.conf.broker_connection_timeout = 5


@app.task
def touch():
    pathlib.Path(os.environ["TOUCHED"]).touch()
"""
SECONDS = 60


@dataclass(slots=True, kw_only=True)
class Broker:
    url: str
    authority: Path


def authority(folder: Path) -> None:
    pki.certificate(folder, "ca", "test-ca", None, pki.AUTHORITY, signer=None)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Broker]:
    authority(tmp_path)
    names = f"{pki.LEAF}subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n"
    pki.certificate(tmp_path, "server", "localhost", None, names, signer="ca")
    server = RedisServer(free_port(), tmp_path)
    files = ("--tls-cert-file", "server.crt", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.crt")
    paths = [word if word.startswith("--") else str(tmp_path / word) for word in files]
    server.run(
        "--port", "0", "--tls-port", str(server.port), "--tls-auth-clients", "no", "--save", "", *paths
    )
    yield Broker(url=f"rediss://localhost:{server.port}/0", authority=tmp_path / "ca.crt")
    server.stop()


@pytest.fixture
def rabbitmq(vhost: Vhost) -> Broker:
    port = vhost.server.ports["amqps"]
    url = f"amqps://{USER}:{OF_RABBITMQ}@localhost:{port}/{vhost.name}"
    return Broker(url=url, authority=vhost.server.ca)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    found: Broker = request.getfixturevalue(request.param)
    return found


@dataclass(slots=True, kw_only=True)
class App:
    """As its pods run it, with the authorities where they are here."""

    folder: Path
    url: str
    configuration: list[str]
    trust: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        touched = str(self.folder / "touched")
        return {**os.environ, "CELERY_BROKER_URL": self.url, "TOUCHED": touched}

    def publish(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from app import touch; touch.delay()"],
            cwd=self.folder,
            env={**self.environment, **self.trust},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def work(self) -> subprocess.Popen[bytes]:
        words = ("worker", "-P", "solo", "--without-mingle", "--without-gossip", *self.configuration)
        with (self.folder / "worker.log").open("wb") as log:
            command = [sys.executable, "-m", "celery", "-A", "app", *words]
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)


def app_of(folder: Path, broker: Broker, authority: Path) -> App:
    def here(text: str) -> str:
        return text.replace(external.CA_FILE, str(authority))

    (folder / "app.py").write_text(APP)
    program = record(chosen({**EXTERNAL, "brokerUrl": broker.url}), password=PASSWORD)
    pods = deployments(program)
    command = pods["default-celery-worker"]["containers"][0]["command"]
    known = environment(pods["sample-app"])
    return App(
        folder=folder,
        url=here(secrets(program)["celery-broker"]["url"]),
        configuration=[here(word) for word in command[command.index("--") :]],
        trust={key: here(known[key]) for key in ("SSL_CERT_FILE",) if key in known},
    )


def test_a_task_goes_over_tls_by_an_authority_of_ones_own(tmp_path: Path, broker: Broker) -> None:
    app = app_of(tmp_path, broker, broker.authority)
    published = app.publish()
    assert published.returncode == 0, published.stderr

    worker = app.work()
    try:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "touched").exists():
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            time.sleep(0.1)
    finally:
        worker.terminate()
        worker.wait(30)


def test_another_authority_is_refused(tmp_path: Path, broker: Broker) -> None:
    other = tmp_path / "other"
    other.mkdir()
    authority(other)
    app = app_of(tmp_path, broker, other / "ca.crt")

    published = app.publish()
    assert published.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in published.stderr

    worker = app.work()
    try:
        deadline = time.monotonic() + SECONDS
        while "CERTIFICATE_VERIFY_FAILED" not in (tmp_path / "worker.log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            time.sleep(0.1)
    finally:
        worker.kill()
        worker.wait(30)
