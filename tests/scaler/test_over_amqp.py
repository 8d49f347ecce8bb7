"""What remote control and heartbeats leave in a real RabbitMQ, and how they outlive its restart."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler.broker.url import UrlFile
from scaler.contract import OWN_PREFIX
from scaler.workers.control import WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Command, Link
from scaler.workers.mailbox import Mailbox
from tests.rabbitmq import Vhost
from tests.scaler.brokers import CLASSIC
from tests.scaler.workers import CeleryWorkers


@pytest.fixture
def link(vhost: Vhost, tmp_path: Path) -> Link:
    """With the scaler's own user."""
    path = tmp_path / "url"
    path.write_text(vhost.scaler_url)
    return Link(url_file=UrlFile(path), name="test")


@pytest.fixture
def workers(vhost: Vhost, tmp_path: Path) -> Iterator[CeleryWorkers]:
    workers = CeleryWorkers(vhost.url, tmp_path, CLASSIC)
    yield workers
    workers.stop()


def own(vhost: Vhost) -> set[str]:
    """Queues of the scaler."""
    return {queue for queue in vhost.queues() if queue.startswith(OWN_PREFIX)}


def gone(vhost: Vhost) -> bool:
    deadline = time.monotonic() + 10
    while own(vhost) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not own(vhost)


def test_where_no_worker_ever_was_nobody_answers_and_nothing_is_declared(vhost: Vhost, link: Link) -> None:
    """The exchange is the workers' to declare; that it is not there is no failure."""
    mailbox = Mailbox(link)
    command = Command("active", frozenset({"a@test"}))

    assert mailbox.ask([command, command], 5) == [{}, {}]
    mailbox.tell([command])
    mailbox.close()
    exchanges = {row["name"] for row in vhost.server.api("GET", f"exchanges/{vhost.name}")}
    assert not any("pidbox" in name or name == "celeryev" for name in exchanges)
    assert gone(vhost)


async def test_a_hundred_calls_are_one_queue_that_goes_with_the_caller(
    vhost: Vhost, link: Link, workers: CeleryWorkers
) -> None:
    worker = workers.start("a")
    control = WorkerControl(link)

    async def answers() -> bool:
        return (await control.consumed([worker.node])).keys() == {worker.node}

    await workers.until("it answers", answers)
    for _ in range(100):
        assert (await control.tasks([worker.node])).keys() == {worker.node}
    assert len(own(vhost)) == 1
    await control.close()
    assert gone(vhost)


def test_a_killed_caller_leaves_nothing(vhost: Vhost, link: Link) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from scaler.broker.url import *; from scaler.workers.link import *\n"
        "from scaler.workers.heartbeats import *\n"
        "listener = HeartbeatListener(Link(url_file=UrlFile(Path(sys.argv[1])), name='test'))\n"
        "listener.start()\n"
        "while listener.heard().since is None: time.sleep(0.01)\n"
        "print(flush=True); time.sleep(60)"
    )
    vhost.server.api("PUT", f"exchanges/{vhost.name}/celeryev", {"type": "topic", "durable": True})
    with subprocess.Popen(
        [sys.executable, "-c", program, str(link.url_file.path)], stdout=subprocess.PIPE
    ) as caller:
        assert caller.stdout
        caller.stdout.readline()
        assert len(own(vhost)) == 1
        caller.kill()
    assert gone(vhost)


async def test_workers_are_heard_again_after_a_restart(
    vhost: Vhost, link: Link, workers: CeleryWorkers
) -> None:
    """Who listens begins anew; what was heard before stays known."""
    listener = HeartbeatListener(link)
    listener.start()
    worker = workers.start("a")
    await workers.until("it is heard", lambda: worker.node in listener.heard().last)
    before = listener.heard()
    vhost.server.restart()
    await workers.until(
        "it is heard again",
        lambda: (
            (listener.heard().since or 0) > (before.since or 0)
            and listener.heard().last[worker.node].at > (listener.heard().since or 0)
        ),
        60,
    )
    listener.close()
    assert gone(vhost)


async def test_a_password_that_changes_is_followed_by_who_listens_and_who_asks(
    vhost: Vhost, link: Link, workers: CeleryWorkers
) -> None:
    """Another user takes over, as in a rotation with two that are valid for a while."""
    listener, control = HeartbeatListener(link), WorkerControl(link)
    listener.start()
    worker = workers.start("a")
    await workers.until("it is heard", lambda: worker.node in listener.heard().last)
    before = listener.heard()
    link.url_file.path.write_text(vhost.url)

    async def followed() -> bool:
        answers = await control.consumed([worker.node])
        return (listener.heard().since or 0) > (before.since or 0) and answers.keys() == {worker.node}

    await workers.until("both have new connections", followed)
    listener.close()
    await control.close()
