"""What the scaler's tests share: the broker's reader on a real Redis, the loop's stage, a real cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from kombu.connection import Connection
from redis import Redis

from scaler import contract
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.workers.link import Link
from tests.conftest import Kubectl, RedisServer
from tests.definition import define
from tests.scaler.brokers import Place, on_rabbitmq, on_redis
from tests.scaler.site import Requests, Site, celery, deployment, rights
from tests.scaler.stage import Stage
from tests.scaler.workers import CeleryWorkers


@pytest.fixture
def url_file(redis_server: RedisServer, tmp_path: Path) -> Path:
    path = tmp_path / "url"
    path.write_text(f"{redis_server.url}\n")
    return path


@pytest.fixture
async def broker(url_file: Path) -> AsyncIterator[BrokerByUrl]:
    reader = BrokerByUrl(UrlFile(url_file), Layout())
    yield reader
    await reader.close()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def kombu(redis_server: RedisServer) -> Iterator[Connection]:
    with Connection(redis_server.url) as connection:
        yield connection


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """Redis, unless the test is parametrized `everywhere`."""
    kind = getattr(request, "param", "redis")
    if kind == "redis":
        return on_redis(request.getfixturevalue("redis_server"))
    return on_rabbitmq(request.getfixturevalue("vhost"), kind)


@pytest.fixture
def workers(place: Place, tmp_path: Path, celery_python: str) -> Iterator[CeleryWorkers]:
    workers = CeleryWorkers(place.url, tmp_path, place.settings, celery_python)
    yield workers
    workers.stop()


@pytest.fixture
def link(place: Place, tmp_path: Path) -> Link:
    return Link(url_file=place.url_file(tmp_path), name="test")


@pytest.fixture(scope="session")
def defined(kubectl: Kubectl) -> Kubectl:
    """kubectl on a cluster that has the project's own CustomResourceDefinition."""
    define(kubectl)
    return kubectl


@pytest.fixture
def site(defined: Kubectl, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Workers, a `Celery` object, and a `KUBECONFIG` with the rights of the scaler's Role and no others."""
    made = Site(defined, namespace)
    name = contract.SCALER_NAME
    made.grant(contract.RBAC_RULES)
    made.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
        deployment(),
        celery(),
    )
    config = yaml.safe_load(defined("config", "view", "--raw", "--flatten", "--minify"))
    config["users"][0]["user"] = {"token": made.run("create", "token", name).strip()}
    path = tmp_path / "limited"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return made


@pytest.fixture
def requests() -> Iterator[Requests]:
    """Every request that a test makes, within the Role's rights unless the test takes some away."""
    made: Requests = []
    yield made
    if not any(code == "403" for _, _, code in made):
        assert {(verb, resource) for verb, resource, _ in made} <= rights()
