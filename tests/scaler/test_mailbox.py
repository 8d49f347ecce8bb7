"""What remote control leaves in a real Redis, and what it says of a broker that is ill."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.connection import Connection
from kombu.pidbox import Mailbox as KombuMailbox
from redis import Redis

from scaler.workers.control import WorkerControl
from scaler.workers.link import Command, ControlUnavailable, Link
from scaler.workers.mailbox import ANSWER_SECONDS, Mailbox
from tests.conftest import RedisServer, free_port
from tests.scaler.workers import CeleryWorkers

REPLIES = "celery-fleet.test.reply.celery.pidbox"


@pytest.fixture
def mailbox(link: Link) -> Iterator[Mailbox]:
    mailbox = Mailbox(link)
    yield mailbox
    mailbox.close()


class Nodes:
    """The worker's half of kombu's pidbox for many nodes, in one thread instead of many processes."""

    def __init__(self, url: str, names: frozenset[str]) -> None:
        self.names = names
        self._url = url
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Nodes:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(10)

    def _run(self) -> None:
        with Connection(self._url) as connection:
            box = KombuMailbox("celery", type="fanout", accept=["json"], serializer="json")(connection)
            channel = connection.channel()
            nodes = {
                name: box.Node(name, channel=channel, handlers={"active": lambda _, **__: [{"row": 1}]})
                for name in self.names
            }

            def dispatch(body: dict[str, object], _: object) -> None:
                for name in body["destination"]:  # type: ignore[attr-defined]
                    if name in nodes:
                        nodes[name].handle_message(body)

            with next(iter(nodes.values())).Consumer(channel, callbacks=[dispatch]):
                while not self._closing.is_set():
                    try:
                        connection.drain_events(timeout=0.1)
                    except TimeoutError:
                        self._ready.set()


def ask(mailbox: Mailbox, *nodes: str, seconds: float = 5) -> dict[str, object]:
    (answers,) = mailbox.ask([Command("active", frozenset(nodes), {"safe": True})], seconds)
    return answers


def test_two_hundred_nodes_answer_in_one_call(mailbox: Mailbox, redis_server: RedisServer) -> None:
    """The call ends with the last answer, not with its deadline."""
    names = frozenset(f"worker@{number}" for number in range(200))
    with Nodes(redis_server.url, names):
        begin = time.monotonic()
        answers = ask(mailbox, *names, seconds=20)

    assert answers == {name: [{"row": 1}] for name in names}
    assert time.monotonic() - begin < 5


def test_a_thousand_calls_leave_nothing(redis_server: RedisServer, link: Link, redis: Redis) -> None:
    """One list, emptied by each call and gone when the caller closes; no binding."""
    with Nodes(redis_server.url, frozenset({"a", "b"})):
        before = set(redis.keys())
        mailbox = Mailbox(link)
        for _ in range(1000):
            assert ask(mailbox, "a", "b").keys() == {"a", "b"}
        connected = len(redis.client_list())
        mailbox.close()

        assert set(redis.keys()) == before
        assert connected < 10


def test_answers_that_came_too_late_are_taken_for_nothing_else(
    redis_server: RedisServer, mailbox: Mailbox, redis: Redis
) -> None:
    """They go with the next call."""
    with Nodes(redis_server.url, frozenset({"a"})):
        assert ask(mailbox, "a", "b", seconds=0) == {}
        deadline = time.monotonic() + 5
        while not redis.llen(REPLIES) and time.monotonic() < deadline:
            time.sleep(0.01)

        assert redis.llen(REPLIES) == 1
        assert ask(mailbox, "a") == {"a": [{"row": 1}]}
        assert redis.llen(REPLIES) == 0


def test_a_killed_caller_leaves_one_list_that_its_successor_empties(
    redis_server: RedisServer, link: Link, redis: Redis
) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from scaler.broker.url import *; from scaler.workers.link import *\n"
        "from scaler.workers.mailbox import *\n"
        "mailbox = Mailbox(Link(url_file=UrlFile(Path(sys.argv[1])), name='test'))\n"
        "mailbox.ask([Command('active', frozenset('ab'))], 0); print(flush=True); time.sleep(60)"
    )
    with Nodes(redis_server.url, frozenset("ab")):
        before = set(redis.keys())
        for _ in range(3):
            command = [sys.executable, "-c", program, str(link.url_file.path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
                assert caller.stdout
                caller.stdout.readline()
                caller.kill()
            time.sleep(0.5)
            assert set(redis.keys()) - before == {REPLIES}
            assert redis.llen(REPLIES) == 2

        successor = Mailbox(link)
        assert ask(successor, "a", "b").keys() == {"a", "b"}
        successor.close()
        assert set(redis.keys()) == before


async def test_two_callers_at_once_get_their_own_answers(
    workers: CeleryWorkers, link: Link, redis: Redis
) -> None:
    """Each has its list, and two calls of one caller wait for each other."""
    worker = workers.start("a")
    one = WorkerControl(link)
    other = WorkerControl(Link(url_file=link.url_file, name="other"))

    async def answers() -> bool:
        return (await one.consumed([worker.node])).keys() == {worker.node}

    await workers.until("it answers", answers)
    calls = [control.tasks([worker.node]) for _ in range(50) for control in (one, other)]
    found = await asyncio.gather(*calls)

    assert all(held.keys() == {worker.node} for held in found)
    await asyncio.gather(one.close(), other.close())
    assert redis.keys("*reply*") == []


def test_the_apps_unacknowledged_messages_are_left_alone(mailbox: Mailbox, redis: Redis) -> None:
    """Any kombu consumer hands them back after its own visibility timeout; this one must not."""
    redis.hset("unacked", "tag", '[{"body": ""}, "", "celery"]')
    redis.zadd("unacked_index", {"tag": 1})
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        ask(mailbox, "nobody", seconds=0.5)

    assert (redis.hlen("unacked"), redis.llen("celery")) == (1, 0)
    assert set(redis.keys()) == {"unacked", "unacked_index"}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        pytest.param("redis://:geheim@127.0.0.1:{port}/0", "refused", id="nobody listens"),
        pytest.param("redis://:geheim@no-such-host.invalid:{port}/0", "no-such-host", id="no such host"),
        pytest.param("kafka://user:geheim@host/", "must begin with redis://", id="another broker"),
        pytest.param(None, "cannot be read: No such file", id="no file"),
    ],
)
def test_a_broker_that_cannot_be_reached_is_one_failure_with_a_sentence(
    link: Link, value: str | None, complaint: str
) -> None:
    """Without the password."""
    if value is None:
        link.url_file.path.unlink()
    else:
        link.url_file.path.write_text(value.format(port=free_port()))

    with pytest.raises(ControlUnavailable, match=complaint) as caught:
        ask(Mailbox(link), "a")
    assert "geheim" not in str(caught.value)


def test_a_wrong_password_is_said_and_a_right_one_is_used_without_a_restart(
    redis_server: RedisServer, link: Link, redis: Redis
) -> None:
    """The file is a mounted Secret, which changes while the scaler runs."""
    redis.config_set("requirepass", "geheim")
    mailbox = Mailbox(link)
    for wrong in (redis_server.url, redis_server.url.replace("//", "//:falsch@")):
        link.url_file.path.write_text(wrong)
        with pytest.raises(ControlUnavailable, match=r"(?i)auth|password") as caught:
            ask(mailbox, "a", seconds=0)
        assert "falsch" not in str(caught.value)

    link.url_file.path.write_text(redis_server.url.replace("//", "//:geheim@"))
    assert ask(mailbox, "a", seconds=0) == {}
    mailbox.close()


def test_a_broker_that_hangs_costs_a_bounded_time(redis_server: RedisServer, mailbox: Mailbox) -> None:
    """Also in the middle, over a connection that worked."""
    assert ask(mailbox, "a", seconds=0) == {}
    assert redis_server.process
    redis_server.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    try:
        with pytest.raises(ControlUnavailable, match="Timeout"):
            ask(mailbox, "a", seconds=1)
    finally:
        redis_server.process.send_signal(signal.SIGCONT)

    assert time.monotonic() - begin < 3 * ANSWER_SECONDS + 1
    assert ask(mailbox, "a", seconds=0) == {}


def test_a_restart_between_two_calls_is_not_noticed(redis_server: RedisServer, mailbox: Mailbox) -> None:
    assert ask(mailbox, "a", seconds=0) == {}
    redis_server.stop()
    redis_server.start()
    with Nodes(redis_server.url, frozenset("a")):
        assert ask(mailbox, "a") == {"a": [{"row": 1}]}


def test_a_server_before_redis_6_will_do(redis_server: RedisServer, mailbox: Mailbox) -> None:
    """It knows no HELLO."""
    redis_server.stop()
    redis_server.start("--rename-command", "HELLO", "")

    assert ask(mailbox, "a", seconds=0) == {}


def test_bytes_that_are_no_answer_are_passed_over(
    redis_server: RedisServer, mailbox: Mailbox, redis: Redis
) -> None:
    with Nodes(redis_server.url, frozenset("a")):
        assert ask(mailbox, "a") == {"a": [{"row": 1}]}
        redis.lpush(REPLIES, "no JSON", "null", "{}", '{"body": 1, "headers": {}, "properties": {}}')

        assert ask(mailbox, "a") == {"a": [{"row": 1}]}


def test_over_tls_the_certificate_is_checked(redis_server: RedisServer, link: Link, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    redis_server.stop()
    port = free_port()
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    redis_server.start("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    mailbox = Mailbox(link)

    link.url_file.path.write_text(f"rediss://localhost:{port}/0")
    with pytest.raises(ControlUnavailable, match="certificate"):
        ask(mailbox, "a", seconds=0)
    url = f"rediss://localhost:{port}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={certificate}"
    link.url_file.path.write_text(url)
    with Nodes(url, frozenset("a")):
        assert ask(mailbox, "a") == {"a": [{"row": 1}]}
    mailbox.close()
