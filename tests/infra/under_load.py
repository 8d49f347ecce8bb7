"""Real workers on a broker of loopback, a load that lasts, and what became of it, by the ledger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError

from sample_app import ledger
from tests.e2e.ledger import Entry, entries_of

ROOT: Final = Path(__file__).parents[2]
PATIENCE_SECONDS: Final = 180


@dataclass(slots=True)
class Worker:
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(slots=True)
class Fleet:
    """Workers of the sample application; their ledger is where `LEDGER_DIR` says."""

    folder: Path
    configuration: Sequence[str] = ()
    """Celery's own, from `--` on."""
    workers: list[Worker] = field(default_factory=list)

    def start(self, url: str) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.log"
        name = f"w{len(self.workers)}@test"
        words = ("-n", name, "-c", "2", "--without-mingle", "--without-gossip", "-l", "INFO")
        command = [sys.executable, "-m", "celery", "-A", "sample_app.tasks:app", "worker", *words]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *self.configuration],
                cwd=ROOT,
                env={**os.environ, "CELERY_BROKER_URL": url},
                stdout=output,
                stderr=output,
            )
        self.workers.append(Worker(process, log))
        until(lambda: " ready." in log.read_text(errors="replace"), f"{name} is ready: {log}")
        return self.workers[-1]

    def leave(self, worker: Worker) -> None:
        """As the kubelet ends a pod, with a grace period longer than any task."""
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()

    def stop(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait(10)


class Load(threading.Thread):
    """A task of 0.05 to 0.5 s ten times a second, by the URL that is named at the time."""

    def __init__(self, urls: Mapping[str, str], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(daemon=True)
        self._urls = urls
        self._options = dict(options or {})
        self.named = next(iter(urls))
        """Also the first part of the tasks' ids."""
        self.ended = threading.Event()
        self.published = 0
        self.refused = 0

    def run(self) -> None:
        apps = {name: Celery(name, broker=url, set_as_current=False) for name, url in self._urls.items()}
        for app in apps.values():
            app.conf.broker_transport_options = self._options
        while not self.ended.wait(0.1):
            task = f"{self.named}-{self.published + self.refused}"
            seconds = 0.05 + (self.published % 10) * 0.05
            try:
                apps[self.named].send_task(
                    "sample_app.tasks.record", (task, seconds), task_id=task, ignore_result=True, retry=False
                )
            except OperationalError:
                self.refused += 1
                continue
            ledger.published(task)
            self.published += 1
        for app in apps.values():
            with suppress(OperationalError):
                app.close()

    def end(self) -> None:
        self.ended.set()
        self.join(PATIENCE_SECONDS)


def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def entries_in(folder: Path) -> list[Entry]:
    return entries_of(line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines())
