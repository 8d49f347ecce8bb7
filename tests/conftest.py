"""Real servers for the tests: one Kubernetes and one RabbitMQ a session, with a namespace and a vhost a test,
and a redis-server of each test's own on loopback.

A test that needs a cluster is marked `cluster` and takes `kubeconfig`; nothing here is a mock.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.rabbitmq import RabbitServer, Vhost
from tests.scaler.workers import OLDEST, PYTHON, python_with

# Time is measured in `make bench`: a busy machine must not fail a law that holds.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

FOUND = "found"
"""Name of a test's property whose value is shown at the end, whether the test passes or not."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == FOUND and report.when == "call":
                    terminalreporter.write_line(str(value))
    # Its own summary has the traceback only.
    for report in terminalreporter.stats.get("rerun", ()):
        for title, text in report.sections:
            terminalreporter.section(f"{report.nodeid}, the try before: {title}", sep="-")
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The cluster of `KUBECONFIG` where `DEMO_CONTEXT` names one of its contexts, else devcluster."""
    if "DEMO_CONTEXT" in os.environ:
        return Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
    subprocess.run(["python3", "-m", "tests.devcluster", "up"], check=True)
    path = subprocess.run(
        ["python3", "-m", "tests.devcluster", "kubeconfig"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return Path(path)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs kubectl against the session's cluster; a failure raises with what kubectl said."""

    kubeconfig: Path
    program: str

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        context = os.environ.get("DEMO_CONTEXT")
        command = [self.program, "--kubeconfig", str(self.kubeconfig)]
        command += ["--context", context] if context else []
        done = subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    program = shutil.which("kubectl") or str(kubeconfig.parent.parent / "bin" / "kubectl")
    return Kubectl(kubeconfig, program)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own, removed with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@dataclass(slots=True)
class RedisServer:
    """A real redis-server; `stop` and `start` are for the tests of an outage."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *arguments: str) -> None:
        options = ["--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.run(*options, *arguments)

    def run(self, *arguments: str) -> None:
        """With these and no others, which name the port."""
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: apt-get install redis-server"
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        if not listens(self.port, 10):
            raise AssertionError(f"redis-server did not start: {(self.folder / 'redis.log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


def listens(port: int, seconds: float, runs: Callable[[], bool] = lambda: True) -> bool:
    """Whether somebody on this machine does so in time, while the server runs."""
    deadline = time.monotonic() + seconds
    while runs() and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def celery_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of the workers: the newest Celery, or by `every_celery` the oldest, too."""
    return python_with(OLDEST) if getattr(request, "param", "newest") == "oldest" else PYTHON


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(free_port(), tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    names = ("amqp", "amqps", "http", "https", "dist", "epmd")
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"), {name: free_port() for name in names})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def vhost(rabbitmq: RabbitServer) -> Iterator[Vhost]:
    """A vhost of the test's own, with the users that a stack has."""
    made = rabbitmq.vhost()
    yield made
    made.remove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What RabbitMQ said, where a test that used it failed."""
    report = yield
    vhost = getattr(item, "funcargs", {}).get("vhost")
    if report.failed and isinstance(vhost, Vhost):
        report.sections.append(("RabbitMQ's log", vhost.server.log))
    return report
