"""The page and the worker as processes of their own, stopped and waited for after each test."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RedisServer, free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP client of the page."""

    port: int

    def request(self, method: str, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def flood(self, query: str) -> tuple[int, dict[str, Any]]:
        status, body = self.request("POST", f"/flood?{query}")
        return status, json.loads(body)


def until(fact: Callable[[], bool], what: str, log: Path, seconds: float = 30) -> None:
    """Wait for a fact; a missed deadline prints what the process wrote."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s\n{log.read_text()}")
        time.sleep(0.05)


@contextmanager
def running(log: Path, module: str, *arguments: str, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def page(redis_server: RedisServer, tmp_path: Path) -> Iterator[Page]:
    client = Page(free_port())
    options = ["--bind", f"127.0.0.1:{client.port}", "--worker-class=gthread", "--threads=4"]
    log = tmp_path / "page.log"

    def answers() -> bool:
        try:
            return client.request("GET", "/healthz") == (200, "ok\n")
        except OSError:
            return False

    environment = {"CELERY_BROKER_URL": redis_server.url}
    with running(
        log, "gunicorn", *options, "--no-control-socket", "sample_app.app:app", environment=environment
    ):
        until(answers, "the page answers", log)
        yield client


@pytest.fixture
def ledger(redis_server: RedisServer, tmp_path: Path) -> Iterator[Path]:
    """The ledger's folder, with a worker that writes to it."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    log = tmp_path / "worker.log"
    environment = {"CELERY_BROKER_URL": redis_server.url, "LEDGER_DIR": str(folder)}
    command = [
        "-A",
        "sample_app.tasks:app",
        "worker",
        "--concurrency=2",
        "--without-mingle",
        "--loglevel=INFO",
    ]
    with running(log, "celery", *command, environment=environment):
        until(lambda: "ready." in log.read_text(), "the worker is ready", log)
        yield folder
