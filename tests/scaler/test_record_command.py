"""`python -m scaler record` on a real cluster and a real Redis, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from redis import Redis

from scaler.commands.record import Recorder, record
from scaler.contract import Env, Ready, policy_of
from scaler.onlooker import Judged
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Memory
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.recording import read
from scaler.settings import load
from scaler.wiring import Wired
from tests.conftest import RedisServer
from tests.scaler.fake_workers import FakeWorkers
from tests.scaler.fakes import FakeCluster
from tests.scaler.samples import AT, spec
from tests.scaler.site import WORKERS, Site, celery

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    url_file = tmp_path / "url"
    url_file.write_text(redis_server.url)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONWARNINGS": "error",
        Env.POD_NAME: "scaler-0",
        Env.BROKER_URL_FILE: str(url_file),
        Env.NAMESPACE: "nowhere",
        Env.POLL_SECONDS: "0.5",
    }


def command(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scaler", "record", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    process = command(environment, *arguments)
    said, wrong = process.communicate(timeout=60)
    return process.returncode, said, wrong


def on(site: Site, environment: dict[str, str]) -> dict[str, str]:
    return {**environment, Env.NAMESPACE: site.namespace, "KUBECONFIG": os.environ["KUBECONFIG"]}


def test_a_file_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kept"
    path.write_text("precious")

    assert record(["--output", str(path)], {}) == 2

    assert capsys.readouterr().err == f"{path} exists: name a new file\n"
    assert path.read_text() == "precious"


def test_without_a_cluster_nothing_is_written(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "new"
    code, said, wrong = run({**environment, "KUBECONFIG": str(tmp_path / "none")}, "--output", str(path))

    assert (code, said) == (1, "")
    assert wrong.startswith("starting: no cluster is configured")
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "goes_on", "code", "lines"),
    [
        pytest.param("mail", False, 1, 0, id="the one that is wanted: nothing is written"),
        pytest.param(None, True, 0, 2, id="one of all: the others are recorded"),
    ],
)
def test_a_pool_whose_spec_was_never_valid_is_told(
    name: str | None, goes_on: bool, code: int, lines: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A header and then nothing for ever would look like a recording."""
    path = tmp_path / "new.jsonl"
    cluster = FakeCluster()
    cluster.add("sums")
    wrong = replace(cluster.add("mail"), policy=None, invalid="maxReplicas must be at least 1")
    report = Report(
        generation=1,
        ready=Ready.DEPLOYMENT_NOT_FOUND,
        ready_message="there is none",
        replicas=None,
        queued=UNKNOWN,
        unacked=UNKNOWN,
        decision=None,
        memory=Memory(),
    )
    judged = [
        Judged(pool=Pool(celery), report=report, deployment=None)
        for celery in (cluster.celeries["sums"], wrong)
    ]
    environ: dict[str, str] = {Env.NAMESPACE: "shop", Env.POD_NAME: "scaler-0", Env.BROKER_URL_FILE: "/none"}
    recorder = Recorder(load(environ), name=name, output=path, seconds=None)
    scaler = cast("Wired", SimpleNamespace(namespace=cluster, ear=FakeWorkers(cluster, lambda: AT)))

    assert (recorder.take(scaler, AT, judged), recorder.code) == (goes_on, code)
    recorder.close()
    said = "mail cannot be recorded, its spec was never valid: maxReplicas must be at least 1\n"
    assert capsys.readouterr().err == said
    assert len(path.read_text().splitlines() if path.exists() else []) == lines


@pytest.mark.cluster
def test_what_is_decided_is_recorded_and_nothing_else_is_written(
    site: Site, environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    redis.lpush("sums", *["x"] * 400)
    path = tmp_path / "new.jsonl"

    code, said, wrong = run(on(site, environment), "--output", str(path), "--seconds", "3")

    assert (code, said, wrong) == (0, "", "")
    found = read(path.read_text().splitlines())
    assert (found.namespace, found.poll_seconds) == (site.namespace, 0.5)
    assert policy_of(found.specs["sums"]) == policy_of(spec())
    ticks = found.ticks["sums"]
    assert len(ticks) >= 3
    for tick in ticks:
        assert tick.observation is not None
        assert tick.decided is not None
        assert tick.observation.queued == Count.exactly(400)
        assert (tick.decided.desired_replicas, tick.decided.reason) == (4, "DemandRose")
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 2
    assert "status" not in site.get("celery/sums")
    assert site.get("leases")["items"] == []


@pytest.mark.cluster
def test_a_change_of_the_object_is_a_line_of_its_own(site: Site, environment: dict[str, str]) -> None:
    """And a reader that has seen enough ends it without a word."""
    process = command(on(site, environment), "sums")
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    site.apply(celery(maxReplicas=30))
    while '"policy"' not in lines[-1]:
        lines.append(process.stdout.readline())
        assert len(lines) < 60
    process.stdout.close()
    code = process.wait(timeout=20)
    assert process.stderr is not None
    wrong = process.stderr.read()
    process.stderr.close()

    assert (code, wrong) == (0, "")
    assert policy_of(read(lines).specs["sums"]).max_replicas == 30


@pytest.mark.cluster
def test_a_pool_that_is_not_there_is_told_with_those_that_are(
    site: Site, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "new"
    code, said, wrong = run(on(site, environment), "summs", "--output", str(path))

    assert (code, said) == (1, "")
    assert wrong == f"no pool summs in namespace {site.namespace}: there are sums\n"
    assert not path.exists()
