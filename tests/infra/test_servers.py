"""Redis, RabbitMQ and PostgreSQL as the stack runs them: started, opened, given a new password, restarted.

Each real server runs from the rendered manifests, in a namespace that admits restricted pods only. It is
asked from within its own pod, which it lets in by password as it does anybody.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.components import postgresql, rabbitmq, redis
from infra.components.credentials import FOLDER
from infra.live.passwords import Servers, wait_until_in_force
from infra.manifests import manifests
from infra.recording import record
from infra.rotation import RotationProvider
from tests.conftest import Kubectl
from tests.devcluster import images
from tests.devcluster.servers import SERVERS
from tests.infra.conftest import settings
from tests.infra.provider_server import ProviderServer

pytestmark = pytest.mark.cluster

OLD, NEW = "Old\"Password\\With$Signs'", "NewPassword0Of0Letters"
OVERLAP_SECONDS = 20
STACKS = {
    redis.NAME: {"broker": "redis", "resultBackend": "none", "redisPersistence": '{"enabled": true}'},
    rabbitmq.NAME: {"broker": "rabbitmq", "resultBackend": "none"},
    postgresql.NAME: {"broker": "redis", "resultBackend": "postgresql"},
}
ASK = {
    redis.NAME: "REDISCLI_AUTH=$1 redis-cli ping | grep -q PONG",
    rabbitmq.NAME: 'rabbitmqctl --quiet authenticate_user "$0" "$1"',
    postgresql.NAME: 'PGPASSWORD=$1 psql --host=127.0.0.1 --username="$0" --dbname=celery -c "SELECT 1"',
}
"""With the user as $0 and the password as $1."""


@dataclass(slots=True)
class Running:
    """One server of a stack in a namespace of its own."""

    name: str
    namespace: str
    kubectl: Kubectl
    kubeconfig: Path
    secret: str = ""
    users: dict[str, str] = field(default_factory=dict)
    """Name by password."""

    def start(self, images_of: dict[str, str]) -> None:
        chosen = {
            **STACKS[self.name],
            **images_of,
            "namespace": self.namespace,
            "createNamespace": "false",
            "passwordOverlapSeconds": str(OVERLAP_SECONDS),
        }
        objects = [found for found in manifests(record(settings("local", chosen))) if self._is_part(found)]
        volumes = json.dumps(objects)
        self.secret = "celery-result-backend" if "celery-result-backend" in volumes else "celery-broker"
        self.give(OLD, "m1", create=True)
        for found in objects:
            self.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=json.dumps(found))
        self.ready()

    def _is_part(self, found: dict[str, Any]) -> bool:
        kinds = ("ConfigMap", "Deployment", "Service", "PersistentVolumeClaim")
        return found["metadata"]["name"] == self.name and found["kind"] in kinds

    def give(self, password: str, mark: str, *, create: bool = False) -> None:
        user = {"username": f"celery-{mark}"} if self.name != redis.NAME else {}
        self.users[password] = user.get("username", "default")
        data = {"password": password, "url": "not looked at", "mark": mark, **user}
        if create:
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self.secret},
                "stringData": data,
            }
            self.kubectl("-n", self.namespace, "create", "-f", "-", stdin=json.dumps(secret))
        else:
            patch = json.dumps({"stringData": data})
            self.kubectl("-n", self.namespace, "patch", "secret", self.secret, f"--patch={patch}")

    def ready(self) -> None:
        here = ("-n", self.namespace, "rollout", "status", f"deployment/{self.name}", "--timeout=180s")
        self.kubectl(*here)

    def opens(self, password: str) -> bool:
        words = (
            "sh",
            "-c",
            ASK[self.name] + " && echo opened || echo refused",
            self.users[password],
            password,
        )
        return self.run(*words).split()[-1] == "opened"

    def run(self, *words: str) -> str:
        return self.kubectl("-n", self.namespace, "exec", f"deployment/{self.name}", "--", *words)

    def rotated(self, mark: str) -> None:
        with Servers("", str(self.kubeconfig)) as servers:
            wait_until_in_force(servers, self.namespace, self.name, mark, 120)

    def log(self) -> str:
        return self.kubectl("-n", self.namespace, "logs", f"deployment/{self.name}")

    def pods(self) -> list[str]:
        return self.kubectl("-n", self.namespace, "get", "pods", "-o", "name").split()


@pytest.fixture(scope="session")
def images_of(kubeconfig: Path) -> dict[str, str]:
    assert kubeconfig.exists()
    found = {}
    for recipe in SERVERS:
        name = images.base(recipe)
        images.load(name)
        found[f"{recipe.name}Image"] = name
    return found


@pytest.fixture(params=STACKS)
def server(
    request: pytest.FixtureRequest,
    namespace: str,
    kubectl: Kubectl,
    kubeconfig: Path,
    images_of: dict[str, str],
) -> Running:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    running = Running(request.param, namespace, kubectl, kubeconfig)
    running.start(images_of)
    return running


def until(fact: Any, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(1)


def test_a_new_password_is_taken_up_beside_the_old_one_which_ends_by_itself(server: Running) -> None:
    """Without a restart; a restart in the middle forgets neither; afterwards only the new one opens."""
    (pod,) = server.pods()
    assert server.opens(OLD)

    server.give(NEW, "m2")
    server.rotated("m2")

    assert server.pods() == [pod]
    assert server.opens(OLD)
    assert server.opens(NEW)

    server.kubectl("-n", server.namespace, "delete", pod, "--wait")
    server.ready()

    assert server.opens(NEW)
    # The overlap may be over by now on a busy machine, and must not have begun anew.
    until(lambda: not server.opens(OLD), "the old password is refused", OVERLAP_SECONDS + 30)
    assert server.opens(NEW)


@pytest.mark.parametrize("server", [redis.NAME], indirect=True)
def test_two_waits_go_on_side_by_side_in_one_provider(server: Running) -> None:
    """As for a broker and a database that get new passwords in one `pulumi up`."""
    declared = {"context": "", "kubeconfig_path": str(server.kubeconfig), "server": server.name}
    before = {**declared, "namespace": server.namespace, "mark": "m1"}
    server.give(NEW, "m2")

    with ProviderServer(RotationProvider()) as provider, ThreadPoolExecutor() as threads:
        made = provider.up(before)
        waits = [threads.submit(provider.update, made, {**before, "mark": "m2"}) for _ in range(4)]

        assert {wait.result().outputs["mark"] for wait in waits} == {"m2"}


def test_no_password_is_in_arguments_logs_or_what_describes_the_pod(server: Running) -> None:
    server.give(NEW, "m2")
    server.rotated("m2")

    arguments = server.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    described = server.kubectl("-n", server.namespace, "describe", "pods,deployments,configmaps")
    events = server.kubectl("-n", server.namespace, "get", "events", "-o", "json")

    for password in (OLD, NEW):
        for place, text in {
            "arguments": arguments,
            "log": server.log(),
            "describe": described,
            "events": events,
        }.items():
            assert password not in text, place


def test_the_credentials_are_the_servers_alone_to_read(server: Running) -> None:
    listed = server.run("sh", "-c", f"ls -l {FOLDER}/ /tmp/ | grep -c 'rw-rw-rw' || true")

    assert listed.strip() == "0"
