"""Real Celery workers as processes on a test's redis-server, and waits that end with their logs."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.devcluster import places

PYTHON = os.environ.get("WORKER_PYTHON", sys.executable)
"""Interpreter that has the Celery to test; docs/decisions/0010-celery-versions.md was made with it."""
OLDEST = ("celery[redis]==5.3.6", "kombu==5.3.7", "redis==5.3.1", "gevent==26.9.0", "setuptools<80")
"""What was current when Celery 5.3 was; setuptools for its pkg_resources."""

every_celery = pytest.mark.parametrize("celery_python", ["newest", "oldest"], indirect=True)
"""The ends of the range; docs/decisions/0010-celery-versions.md has those in between."""


def python_with(requirements: Sequence[str]) -> str:
    """An interpreter of its own with these packages, made once and kept with the project's caches."""

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # Run as a module only, so that the folder may be renamed when it is done.
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *requirements], check=True)

    key = places.key_of(sys.version, *requirements)
    return str(places.made_once(places.cache() / "celery" / key, make) / "bin" / "python")


def celery_version(python: str) -> tuple[int, ...]:
    program = "import celery; print(celery.__version__)"
    said = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in said.strip().split(".")[:2])


@dataclass(slots=True)
class CeleryWorker:
    node: str
    log: Path
    process: subprocess.Popen[bytes]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """With its pool's processes, as a container's end does."""
        self.process.send_signal(signal.SIGCONT)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@dataclass(slots=True)
class CeleryWorkers:
    """Starts workers and stops them all at the end."""

    url: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the app, beside what a worker is started with."""
    python: str = PYTHON
    started: list[CeleryWorker] = field(default_factory=list)
    app: Celery = field(default_factory=lambda: Celery("producer", set_as_current=False))

    def __post_init__(self) -> None:
        self.app.conf.update(broker_url=self.url, task_ignore_result=True, **self.settings)

    def start(
        self,
        name: str,
        *arguments: str,
        host: str = "test",
        pool: str = "prefork",
        queues: str = "celery",
        slots: int = 1,
        settings: Mapping[str, Any] | None = None,
    ) -> CeleryWorker:
        log = self.folder / f"{name}-{host}.log"
        options = ["-n", f"{name}@{host}", "-P", pool, "-c", str(slots), "-Q", queues, "-l", "INFO"]
        command = [self.python, "-m", "celery", "-A", "worker_app", "worker", "--without-mingle", *options]
        environment = os.environ | {
            "CELERY_BROKER_URL": self.url,
            "WORKER_SETTINGS": json.dumps({**self.settings, **(settings or {})}),
        }
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=Path(__file__).parent,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker = CeleryWorker(f"{name}@{host}", log, process)
        self.started.append(worker)
        return worker

    def publish(self, gate: Path, *, queue: str = "celery", countdown: float | None = None) -> str:
        """A task that runs until the file `gate` is there; its id."""
        sent = self.app.send_task("worker_app.wait_for", (str(gate),), queue=queue, countdown=countdown)
        return str(sent.id)

    async def until(
        self, what: str, condition: Callable[[], bool | Awaitable[bool]], seconds: float = 30
    ) -> None:
        """Wait for the condition; what was waited for, and every worker's log, where it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            met = condition()
            if await met if inspect.isawaitable(met) else met:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.logs()}")
            await asyncio.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(f"--- {worker.node}\n{worker.log.read_text()}" for worker in self.started)

    def stop(self) -> None:
        for worker in self.started:
            if worker.process.poll() is None:
                worker.kill()
        # Closing the app leaves its connections to the garbage collector, which warns.
        self.app.pool.force_close_all()
        self.app.close()
