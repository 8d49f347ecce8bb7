"""The program as a process: its exit codes, its lines, its signals, on a real cluster and a real Redis."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis

from scaler import contract
from scaler.contract import Env
from tests.conftest import RedisServer, free_port
from tests.scaler.site import WORKERS, Site

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret-marker"

ON_ANOTHER_PORT = """
import runpy, sys
import scaler.contract
scaler.contract.HTTP_PORT = int(sys.argv.pop(1))
runpy.run_module("scaler", run_name="__main__", alter_sys=True)
"""
"""The port is part of the contract and taken on a machine that runs more than one scaler."""


@pytest.fixture
def environment(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    url_file = tmp_path / "url"
    url_file.write_text(redis_server.url.replace("redis://", f"redis://:{PASSWORD}@"))
    with Redis.from_url(redis_server.url) as redis:
        redis.config_set("requirepass", PASSWORD)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONWARNINGS": "error",
        Env.POD_NAME: "scaler-0",
        Env.BROKER_URL_FILE: str(url_file),
        Env.NAMESPACE: "nowhere",
        Env.POLL_SECONDS: "0.5",
    }


@pytest.fixture
def flood(redis_server: RedisServer) -> Callable[[int], None]:
    def publish(messages: int) -> None:
        with Redis.from_url(redis_server.url, password=PASSWORD) as redis:
            redis.lpush("sums", *["x"] * messages)

    return publish


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scaler", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Running:
    """A scaler that serves."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_ANOTHER_PORT, str(self.port)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def until(self, reached: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not self._is(reached):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _is(self, reached: Callable[[], bool]) -> bool:
        try:
            return reached()
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code, and what was printed. How long it takes is measured in `bench.scaler`."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=10)
        return self.process.returncode, output


@pytest.fixture
def started() -> Iterator[Callable[[dict[str, str]], Running]]:
    running: list[Running] = []

    def start(environment: dict[str, str]) -> Running:
        running.append(Running(environment))
        return running[-1]

    yield start
    for scaler in running:
        if scaler.process.poll() is None:
            scaler.process.kill()
            scaler.process.communicate()


def lines_of(output: str) -> list[dict[str, Any]]:
    """Every line is JSON; one that is not fails the test."""
    return [json.loads(line) for line in output.splitlines()]


def test_wrong_environment_is_said_at_once() -> None:
    """Exit code 2, and one line for each variable that is wrong."""
    done = run({"PATH": os.environ["PATH"], Env.POLL_SECONDS: "soon"})

    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        Env.NAMESPACE,
        Env.POD_NAME,
        Env.BROKER_URL_FILE,
        Env.POLL_SECONDS,
    ]


def test_no_cluster_is_said_and_fails(environment: dict[str, str], tmp_path: Path) -> None:
    """Neither a pod's service account nor a kubeconfig: one line, exit code 1."""
    done = run({**environment, "KUBECONFIG": str(tmp_path / "none")}, "--once")

    assert done.returncode == 1
    assert [line["event"] for line in lines_of(done.stdout)] == ["failed"]
    assert "no cluster is configured" in done.stdout


def unreachable(tmp_path: Path) -> str:
    """A kubeconfig that leads nowhere."""
    path = tmp_path / "nowhere"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_api_server_away_is_no_reason_to_die(
    environment: dict[str, str], tmp_path: Path, started: Callable[[dict[str, str]], Running]
) -> None:
    """R13: it lives, says so, and leaves when it is told to."""
    scaler = started({**environment, "KUBECONFIG": unreachable(tmp_path)})
    scaler.until(lambda: scaler.get("/healthz") == "ok\n")
    scaler.until(lambda: 'celery_fleet_errors_total{kind="unreachable"}' in scaler.get("/metrics"))
    code, output = scaler.stop()

    assert code == 0
    assert {line["event"] for line in lines_of(output)} == {"failed"}


def test_a_port_that_is_taken_is_said_and_fails(environment: dict[str, str], tmp_path: Path) -> None:
    """One line and exit code 1, before anything is read or written."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104  # as the scaler in its pod
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", ON_ANOTHER_PORT, str(port)],
            env={**environment, "KUBECONFIG": unreachable(tmp_path)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"port {port} is in use: another scaler, or something else, listens there\n"


@pytest.mark.cluster
def test_dry_run_decides_and_writes_nothing(
    site: Site, environment: dict[str, str], flood: Callable[[int], None]
) -> None:
    """What would be done is a line; replicas, status, Lease and events stay as they are."""
    flood(400)
    done = run(_in(site, environment), "--once", "--dry-run")

    decided = next(line for line in lines_of(done.stdout) if line["event"] == "decided")
    assert (decided["pool"], decided["reason"], decided["desired"]) == ("sums", "DemandRose", 4)
    assert done.returncode == 0
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 2
    assert "status" not in site.get("celery/sums")
    assert site.get("leases")["items"] == []


def _in(site: Site, environment: dict[str, str]) -> dict[str, str]:
    return {**environment, Env.NAMESPACE: site.namespace, "KUBECONFIG": os.environ["KUBECONFIG"]}


@pytest.mark.cluster
def test_once_acts_once_and_hands_the_lease_back(
    site: Site, environment: dict[str, str], flood: Callable[[int], None]
) -> None:
    """One tick with all its writes, then the exit code of what was found."""
    flood(400)
    done = run(_in(site, environment), "--once")

    assert done.returncode == 0, done.stdout
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 4
    assert site.get("celery/sums")["status"]["desiredReplicas"] == 4
    assert site.get(f"lease/{contract.SCALER_NAME}")["spec"]["holderIdentity"] == ""


@pytest.mark.cluster
def test_once_fails_where_an_object_is_not_ready(
    site: Site, environment: dict[str, str], redis_server: RedisServer
) -> None:
    """Exit code 1 for a script that asks whether all is well."""
    redis_server.stop()
    done = run(_in(site, environment), "--once")

    assert done.returncode == 1
    assert "BrokerUnreachable" in done.stdout


@pytest.mark.cluster
def test_whole_life(
    site: Site,
    environment: dict[str, str],
    flood: Callable[[int], None],
    redis_server: RedisServer,
    started: Callable[[dict[str, str]], Running],
) -> None:
    """Scale out, meet an outage, come back, stop at once; with no secret in any line or metric."""
    scaler = started(_in(site, {**environment, Env.LOG_LEVEL: "DEBUG"}))
    scaler.until(lambda: 'celery_fleet_ready{pool="sums",reason="Watching"} 1.0' in scaler.get("/metrics"))
    flood(400)
    scaler.until(lambda: site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 4)
    redis_server.stop()
    scaler.until(lambda: _ready(site) == ("False", "BrokerUnreachable"))
    assert scaler.get("/healthz") == "ok\n"
    redis_server.start("--requirepass", PASSWORD)
    scaler.until(lambda: _ready(site) == ("True", "Watching"))
    metrics = scaler.get("/metrics") + scaler.get("/") + scaler.get("/pools/sums")
    code, output = scaler.stop()

    assert code == 0
    assert {"decided", "scaled", "broker", "lease"} <= {line["event"] for line in lines_of(output)}
    assert PASSWORD not in output + metrics + json.dumps(site.get("celery/sums")) + json.dumps(
        site.get("events")
    )
    assert site.get(f"lease/{contract.SCALER_NAME}")["spec"]["holderIdentity"] == ""


def _ready(site: Site) -> tuple[str, str]:
    conditions = site.get("celery/sums")["status"]["conditions"]
    ready = next(item for item in conditions if item["type"] == "Ready")
    return ready["status"], ready["reason"]
