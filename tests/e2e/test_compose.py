"""compose.yaml on a real Docker engine, beside devcluster: up, a task, and nothing left when it is down."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest
import yaml

from demo.cluster import Cluster
from demo.environment import ROOT
from demo.images import FOLDERS, Built
from infra.compose import FILE, PASSWORD
from tests.devcluster import images as store
from tests.devcluster.toolchain import compose as compose_program
from tests.e2e.docker_engine import DockerEngine

pytestmark = pytest.mark.cluster

MARKER: Final = "Marker0Password0Of0The0Env0File"


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    # Socket paths must stay short.
    with DockerEngine(Path(tempfile.mkdtemp(prefix="dk-"))) as running:
        yield running


@pytest.fixture
def compose(engine: DockerEngine, built: Built, tmp_path: Path) -> Callable[..., str]:
    """`docker compose` on the committed file, with this machine's images under the names that it asks for."""
    (tmp_path / ".env").write_text(f"{PASSWORD}={MARKER}\n")
    override: dict[str, Any] = {"services": {"redis": {"image": built.redis or "redis:8.2"}}}
    (tmp_path / "override.yaml").write_text(yaml.safe_dump(override))
    for name in FOLDERS:
        if name in FILE.read_text():
            load(engine, f"{built.registry}/{name}:{built.tag}", f"localhost/{name}:local", tmp_path)
    load(engine, built.redis, built.redis, tmp_path)
    files = [
        "--file",
        str(FILE),
        "--file",
        str(tmp_path / "override.yaml"),
        "--env-file",
        str(tmp_path / ".env"),
    ]
    program = str(compose_program())

    def run(*words: str, seconds: float = 300) -> str:
        environment = {**os.environ, "DOCKER_HOST": engine.host}
        done = subprocess.run(
            [program, *files, *words],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"docker compose {' '.join(words)}: {done.stderr}"
        return done.stdout

    return run


def load(engine: DockerEngine, image: str, name: str, folder: Path) -> None:
    file = folder / "image.tar"
    store.archive(image, file)
    engine.docker("load", "--input", str(file))
    engine.docker("tag", image, name)
    file.unlink()


def test_the_stack_runs_a_task_without_kubernetes(
    compose: Callable[..., str], engine: DockerEngine, cluster: Cluster
) -> None:
    """Every service healthy, a flood through the page of the sample app worked off, Flower read-only and
    behind its password, which is in no process's arguments; devcluster beside it is well."""
    compose("up", "--detach", "--no-build", "--pull", "never", "--wait", "--wait-timeout", "120")

    status, answer = asked(30500, "POST", "/flood?tasks=200&batches=1&task=add")
    assert (status, json.loads(answer)["published"]) == (200, 200)
    until(lambda: succeeded(compose) == 200, "200 tasks have run", 60)
    login = {"Authorization": "Basic " + base64.b64encode(f"admin:{MARKER}".encode()).decode()}
    assert asked(30555, "GET", "/workers")[0] == 401
    assert asked(30555, "GET", "/workers", login)[0] == 200
    assert asked(30555, "POST", "/api/worker/shutdown/worker@any", login)[0] == 403
    assert asked(30555, "GET", "/healthcheck")[0] == 200
    assert MARKER not in arguments()
    assert cluster.kubectl("get", "--raw", "/readyz").strip() == "ok"

    compose("down", "--volumes")

    assert engine.docker("ps", "--all", "--quiet").stdout == ""
    assert engine.docker("volume", "ls", "--quiet").stdout == ""


def asked(
    port: int, method: str, path: str, headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def succeeded(compose: Callable[..., str]) -> int:
    return len(
        re.findall(r"Task sample_app\.tasks\.add\[\S+\] succeeded", compose("logs", "default-celery-worker"))
    )


def arguments() -> str:
    """Of every process of this machine, containers' too."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it ended while we looked
    return "\n".join(found)


def until(fact: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
