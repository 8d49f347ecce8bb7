"""Redis and Valkey as they are managed for you: TLS by a CA of their own, and a user with few rights."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.contract import Ready, redis_rights
from scaler.pool.count import Count
from scaler.workers.control import WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Link
from tests import trixie
from tests.conftest import RedisServer, free_port
from tests.devcluster import pki
from tests.scaler.reading import failure_of, read
from tests.scaler.workers import CeleryWorkers
from tests.valkey import ValkeyServer

SCALER, WORKER = "celery-scaler", "celery"


@dataclass(slots=True)
class Secured:
    folder: Path
    server: RedisServer
    tls_port: int

    def start(self) -> None:
        pki.certificate(self.folder, "ca", "test-ca", None, pki.AUTHORITY, signer=None)
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
        pki.certificate(self.folder, "server", "localhost", None, f"{pki.LEAF}{names}", signer="ca")
        place = Path(trixie.DATA) if isinstance(self.server, ValkeyServer) else self.folder
        files = {"ca-cert": "ca.crt", "cert": "server.crt", "key": "server.key"}
        options = [word for name, file in files.items() for word in (f"--tls-{name}-file", str(place / file))]
        self.server.start("--tls-port", str(self.tls_port), *options, "--tls-auth-clients", "no")
        self.allow(WORKER, ">worker-pw", "~*", "&*", "+@all")
        self.allow(SCALER, ">scaler-pw", *redis_rights().split())

    def allow(self, user: str, *rules: str) -> None:
        with self.admin() as admin:
            admin.execute_command("ACL", "SETUSER", user, "on", *rules)

    def admin(self) -> Redis:
        return Redis.from_url(self.server.url, decode_responses=True)

    def url(self, user: str, password: str) -> str:
        return f"rediss://{user}:{password}@localhost:{self.tls_port}/0"

    @property
    def worker_url(self) -> str:
        ca = quote(str(self.folder / "ca.crt"), safe="")
        return f"{self.url(WORKER, 'worker-pw')}?ssl_cert_reqs=required&ssl_ca_certs={ca}"


@pytest.fixture(params=["redis", "valkey"])
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Secured]:
    folder = tmp_path / request.param
    folder.mkdir()
    kind = RedisServer if request.param == "redis" else ValkeyServer
    made = Secured(folder, kind(free_port(), folder), free_port())
    try:
        made.start()
        yield made
    finally:
        made.server.stop()


@dataclass(slots=True)
class Side:
    """The scaler's, with its one file."""

    file: UrlFile
    broker: BrokerByUrl
    control: WorkerControl
    listener: HeartbeatListener


@pytest.fixture
async def side(secured: Secured, tmp_path: Path) -> AsyncIterator[Side]:
    file = UrlFile(tmp_path / "url", secured.folder / "ca.crt")
    file.path.write_text(secured.url(SCALER, "scaler-pw"))
    link = Link(url_file=file, name="test")
    made = Side(file, BrokerByUrl(file, Layout()), WorkerControl(link), HeartbeatListener(link))
    made.listener.start()
    yield made
    made.listener.close()
    await made.control.close()
    await made.broker.close()


@pytest.fixture
def secured_workers(secured: Secured, tmp_path: Path) -> Iterator[CeleryWorkers]:
    workers = CeleryWorkers(secured.worker_url, tmp_path, {"task_acks_late": True})
    yield workers
    workers.stop()


async def test_scaler_needs_the_rights_that_the_contract_names_and_no_others(
    secured: Secured, side: Side, secured_workers: CeleryWorkers, tmp_path: Path
) -> None:
    """Redis keeps a log of what it refused: there is nothing in it when all was done."""
    workers, gate = secured_workers, tmp_path / "gate"
    worker = workers.start("a", "--prefetch-multiplier", "1")
    await workers.until("it is heard", lambda: worker.node in side.listener.heard().last)
    workers.publish(gate, countdown=3600)
    for _ in range(3):
        workers.publish(gate)

    async def held() -> bool:
        found = (await side.control.tasks([worker.node])).get(worker.node)
        return found is not None and (len(found.running), found.scheduled) == (1, 1)

    await workers.until("it runs one and holds one for later", held)
    backlog = await read(side.broker, "celery")

    assert backlog.failure(["celery"]) is None
    assert backlog.queued_due(["celery"]) + backlog.delivered_due(["celery"]) == Count(3, 3)
    assert backlog.not_due(["celery"]) == Count(1, 1)
    queues = {worker.node: ["celery"]}
    assert await side.control.stop_consuming(queues) == {worker.node}
    assert await side.control.resume(queues) == {worker.node}
    gate.touch()

    async def done() -> bool:
        found = await read(side.broker, "celery")
        return found.queued_due(["celery"]) + found.delivered_due(["celery"]) == Count(0, 0)

    await workers.until("the rest is done", done)
    with secured.admin() as admin:
        assert admin.execute_command("ACL", "LOG") == []


def test_scalers_user_can_take_no_message_and_publish_no_task(secured: Secured) -> None:
    refused = [
        *("LPUSH celery x", "RPUSH celery x", "BRPOP celery 0", "RPOP celery", "LPOP celery", "DEL celery"),
        *("HSET unacked a x", "HDEL unacked a", "ZREM unacked_index a", "SADD _kombu.binding.celery x"),
        *("FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "CONFIG GET *", "EVAL return 0", "ACL LIST", "SHUTDOWN"),
        *("CLIENT LIST", "REPLICAOF NO ONE", "MONITOR", "RENAME celery x", "SWAPDB 0 1"),
    ]
    with secured.admin() as admin:
        admin.lpush("celery", "message")
    with Redis.from_url(
        secured.url(SCALER, "scaler-pw"), ssl_ca_certs=str(secured.folder / "ca.crt")
    ) as client:
        for command in refused:
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())
        assert client.llen("celery") == 1


async def test_ca_that_is_not_given_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    """Neither is a name that the certificate does not have."""
    path = tmp_path / "other-url"
    path.write_text(secured.url(SCALER, "pw-marker"))
    reader = BrokerByUrl(UrlFile(path), Layout())
    unknown = await failure_of(reader, "celery")
    path.write_text(secured.url(SCALER, "pw-marker").replace("localhost", "127.1"))
    reader = BrokerByUrl(UrlFile(path, secured.folder / "ca.crt"), Layout())
    misnamed = await failure_of(reader, "celery")

    assert (unknown.reason, misnamed.reason) == (Ready.BROKER_NOT_TRUSTED, Ready.BROKER_NOT_TRUSTED)
    assert ("name the CA" in unknown.sentence, "marker" in unknown.sentence + misnamed.sentence) == (
        True,
        False,
    )


async def test_rotated_password_reaches_all_connections_without_a_restart(
    secured: Secured, side: Side, secured_workers: CeleryWorkers
) -> None:
    """Two passwords are valid for a while; then the old one goes, and whoever still uses it is cut off."""
    workers = secured_workers
    worker = workers.start("a")
    await workers.until("it is heard", lambda: worker.node in side.listener.heard().last)
    assert (await read(side.broker, "celery")).queued(["celery"]) == Count(0, 0)
    secured.allow(SCALER, ">rotated")
    side.file.path.write_text(secured.url(SCALER, "rotated"))
    at = time.time()

    async def followed() -> bool:
        answers = await side.control.consumed([worker.node])
        return (side.listener.heard().since or 0) >= at and answers.keys() == {worker.node}

    await workers.until("the listener has a new connection, and workers answer", followed)
    await read(side.broker, "celery")
    secured.allow(SCALER, "<scaler-pw")
    with secured.admin() as admin:
        admin.execute_command("CLIENT", "KILL", "USER", SCALER)
    at = time.time()
    assert (await read(side.broker, "celery")).queued(["celery"]) == Count(0, 0)
    await workers.until("all of it works by the new one alone", followed)
