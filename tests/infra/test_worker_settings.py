"""The settings of a stack, on a real worker that the program's own command line starts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from celery import Celery

from infra.recording import record
from tests.conftest import RedisServer
from tests.infra.conftest import settings
from tests.scaler.workers import celery_version, every_celery

pytestmark = every_celery

NODE = "worker@pod-0"
REFUSED = "] Received invalid task message: Refusing to deserialize untrusted content of type pickle"
ROOT = Path(__file__).parent.parent.parent
SINCE = {"softShutdownTimeoutSeconds": (5, 5), "disablePrefetch": (5, 6)}
"""Settings that older versions do not know, as their descriptions say."""
T = TypeVar("T")


def container(**overrides: str) -> Mapping[str, Any]:
    """The worker's container as the program declares it, with the app of these tests."""
    chosen = {"celeryApp": "tests.infra.contrary_app:app", **overrides}
    declared = {resource.name: resource for resource in record(settings("dev", chosen))}
    pod = declared["workers-default-deployment"].inputs["spec"]["template"]["spec"]
    found: Mapping[str, Any] = pod["containers"][0]
    return found


@dataclass(slots=True)
class Worker:
    """One worker as kubelet would start it, but for the image."""

    process: subprocess.Popen[bytes]
    log: Path
    app: Celery
    store: redis.Redis

    def until(self, what: str, look: Callable[[], T | None], seconds: float = 30) -> T:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            assert self.process.poll() is None, f"the worker has ended: {self.log.read_text()}"
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds:g} s: {what}\n{self.log.read_text()}")

    def answer(self, method: str) -> Mapping[str, Any]:
        """What the worker says to `celery inspect`."""
        inspect = self.app.control.inspect(destination=[NODE], timeout=1)
        replies = self.until(method, lambda: getattr(inspect, method)())
        found: Mapping[str, Any] = replies[NODE]
        return found

    def send(self, seconds: float, ledger: Path, **more: Any) -> None:
        self.app.send_task("tests.infra.contrary_app.nap", (seconds, str(ledger)), **more)

    def stop(self) -> float:
        """End it as kubelet does, and say how many seconds that took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - begin

    def left(self) -> tuple[int, int]:
        """Messages in the queue, and unacknowledged ones."""
        return int(self.store.llen("celery")), int(self.store.hlen("unacked"))


Start = Callable[..., Worker]


@pytest.fixture
def start(redis_server: RedisServer, tmp_path: Path, celery_python: str) -> Iterator[Start]:
    started: list[Worker] = []
    app = Celery("producer", broker=redis_server.url, set_as_current=False)
    store = redis.Redis.from_url(redis_server.url)

    def begin(**overrides: str) -> Worker:
        needed = max((SINCE[name] for name in overrides if name in SINCE), default=(0,))
        if celery_version(celery_python) < needed:
            pytest.skip(f"the setting is of Celery {'.'.join(map(str, needed))}")
        made = container(**overrides)
        words = [word.replace("$(POD_NAME)", "pod-0") for word in made["command"]]
        variables = {entry["name"]: entry["value"] for entry in made["env"] if "value" in entry}
        log = tmp_path / "worker.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [celery_python, "-m", *words],
                cwd=ROOT,
                env={**os.environ, **variables, "CELERY_BROKER_URL": redis_server.url},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker = Worker(process, log, app, store)
        started.append(worker)
        worker.until("the worker is ready", lambda: " ready." in log.read_text())
        return worker

    yield begin
    for worker in started:
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait(10)
    app.close()
    store.close()


CONFIGURED = (
    "task_acks_late",
    "worker_soft_shutdown_timeout",
    "broker_transport_options",
    "worker_disable_prefetch",
)


@pytest.mark.parametrize(
    ("overrides", "configured", "prefetch"),
    [
        pytest.param(
            {},
            (False, 99, {"visibility_timeout": 99, "socket_timeout": 33}, False),
            14,  # 7 x 2, the app's
            id="what is not set is the app's",
        ),
        pytest.param(
            {
                "acksLate": "true",
                "visibilityTimeoutSeconds": "7200",
                "brokerTransportOptions": '{"priority_steps": [0, 5]}',
                "prefetchMultiplier": "3",
                "extraArgs": '["-E", "--time-limit", "600"]',
            },
            (True, 99, {"visibility_timeout": 7200, "priority_steps": [0, 5]}, False),
            6,  # 3 x 2
            id="what is set takes the app's place",
        ),
        pytest.param(
            {"acksLate": "true", "softShutdownTimeoutSeconds": "6"},
            (True, 6, {"visibility_timeout": 99, "socket_timeout": 33}, False),
            14,
            id="a soft shutdown",
        ),
        pytest.param(
            {"disablePrefetch": "true"},
            (False, 99, {"visibility_timeout": 99, "socket_timeout": 33}, True),
            14,  # not asked for any more: see the next test
            id="no prefetch",
        ),
    ],
)
def test_a_setting_takes_effect_whatever_the_app_says(
    start: Start, overrides: dict[str, str], configured: tuple[object, ...], prefetch: int
) -> None:
    """`inspect conf` shows what Celery was told, `inspect stats` what it does: they differ for prefetch."""
    worker = start(concurrency="2", **overrides)

    conf = worker.answer("conf")
    assert tuple(conf.get(key, False) for key in CONFIGURED) == configured
    assert worker.answer("stats")["prefetch_count"] == prefetch


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        pytest.param({}, (0, 3), id="the app's prefetch takes them all"),
        pytest.param({"prefetchMultiplier": "1"}, (2, 1), id="one more than runs"),
        pytest.param({"disablePrefetch": "true"}, (3, 0), id="none that does not run"),
        pytest.param({"prefetchMultiplier": "1", "acksLate": "true"}, (3, 1), id="the running one"),
    ],
)
def test_a_worker_holds_no_more_than_it_was_told(
    start: Start, tmp_path: Path, overrides: dict[str, str], left: tuple[int, int]
) -> None:
    """Of four tasks for one process; a running one is in `unacked` only where it is acknowledged late."""
    worker = start(concurrency="1", **overrides)
    for _ in range(4):
        worker.send(60, tmp_path / "ledger")

    worker.until("the first runs", (tmp_path / "ledger").exists)
    worker.until(f"{left} messages are left", lambda: worker.left() == left)
    time.sleep(1)

    assert worker.left() == left


@pytest.mark.parametrize(
    ("env", "said"),
    [
        pytest.param("{}", "start late\n", id="tasks that are looked up later"),
        pytest.param('{"LOOK_UP_TASKS": "1"}', "start early\n", id="tasks that the app looks up itself"),
    ],
)
def test_acks_late_is_for_tasks_that_are_looked_up_after_the_command_line(
    start: Start, tmp_path: Path, env: str, said: str
) -> None:
    """A task takes Celery's configuration when it is first used; acksLate's description says so."""
    worker = start(acksLate="true", env=env)

    worker.send(0, tmp_path / "ledger")

    ledger = worker.until("the task has run", lambda: finished(tmp_path / "ledger"))
    assert ledger.startswith(said)


def finished(ledger: Path) -> str:
    text = ledger.read_text() if ledger.exists() else ""
    return text if "finish" in text else ""


@pytest.mark.parametrize(
    ("overrides", "seconds", "lines", "left", "least"),
    [
        pytest.param({}, 2, "start early\nfinish\n", (0, 0), 1, id="without it a task is finished"),
        pytest.param(
            {"softShutdownTimeoutSeconds": "2", "acksLate": "true"},
            60,
            "start late\n",
            (1, 0),
            2,
            id="what is not done by then goes back to the queue",
        ),
        pytest.param(
            {"softShutdownTimeoutSeconds": "2", "acksLate": "true"},
            1,
            "start late\nfinish\n",
            (0, 0),
            2,
            id="what is done by then is not repeated, and the whole time is waited for",
        ),
        pytest.param(
            {"softShutdownTimeoutSeconds": "2"},
            60,
            "start early\n",
            (0, 0),
            2,
            id="what was acknowledged early is lost, which the preview says",
        ),
    ],
)
def test_sigterm_means_what_the_soft_shutdown_says(
    start: Start,
    tmp_path: Path,
    overrides: dict[str, str],
    seconds: float,
    lines: str,
    left: tuple[int, int],
    least: float,
) -> None:
    worker = start(**overrides)
    ledger = tmp_path / "ledger"
    worker.send(seconds, ledger)
    worker.until("the task runs", ledger.exists)

    took = worker.stop()

    assert least <= took < 20
    assert ledger.read_text() == lines
    assert worker.left() == left


def test_tasks_of_a_later_time_go_back_to_the_queue(start: Start, tmp_path: Path) -> None:
    """An idle worker does not wait for the soft shutdown, and keeps nothing from the others."""
    worker = start(softShutdownTimeoutSeconds="25")
    worker.send(1, tmp_path / "ledger", countdown=600)
    worker.until("the worker holds it", lambda: worker.left() == (0, 1))

    took = worker.stop()

    assert took < 20
    assert worker.left() == (1, 0)


def test_a_message_that_is_no_json_is_refused_and_said_and_the_worker_goes_on(
    start: Start, tmp_path: Path
) -> None:
    """Whatever the app accepts. Each one is an error in the worker's log, which is where it is counted, and
    gone: neither queued nor unacknowledged, so it comes back never and in no loop."""
    worker = start()
    for _ in range(3):
        worker.send(0, tmp_path / "pickled", serializer="pickle")
    worker.send(0, tmp_path / "ledger")

    worker.until("the task behind them has run", lambda: finished(tmp_path / "ledger"))

    worker.until("nothing is left", lambda: worker.left() == (0, 0))
    assert worker.log.read_text().count(REFUSED) == 3
    assert not (tmp_path / "pickled").exists()


def test_a_stack_may_accept_what_its_app_sends(start: Start, tmp_path: Path) -> None:
    worker = start(acceptContent='["json", "pickle"]', env='{"C_FORCE_ROOT": "1"}')

    worker.send(0, tmp_path / "ledger", serializer="pickle")

    worker.until("the task has run", lambda: finished(tmp_path / "ledger"))
    assert REFUSED not in worker.log.read_text()
