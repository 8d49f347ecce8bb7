"""A RabbitMQ that is away, hung or closed: each gives its reason, and no number."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import amqp
import pytest
from amqp.exceptions import AccessRefused

from scaler.broker.amqp_channel import ANSWER_SECONDS, CALL_SECONDS, AmqpChannel, Unanswered
from scaler.broker.backlog import BrokerFailure
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.rabbitmq_queues import STALE_SECONDS
from scaler.contract import OWN_PREFIX, Ready
from scaler.pool.count import UNKNOWN, Count
from scaler.workers.link import Command, ControlUnavailable
from tests.conftest import free_port
from tests.rabbitmq import SCALER, SCALER_PASSWORD, Vhost
from tests.scaler.reading import RabbitFiles, failure_of, read


@pytest.fixture
async def files(vhost: Vhost, tmp_path: Path) -> AsyncIterator[RabbitFiles]:
    vhost.declare("sums")
    made = RabbitFiles(tmp_path, vhost)
    yield made
    await made.broker.close()


@pytest.fixture
async def trusting(vhost: Vhost, tmp_path: Path) -> AsyncIterator[RabbitFiles]:
    """With the CA that signed the server's certificate."""
    vhost.declare("sums")
    made = RabbitFiles(tmp_path, vhost, vhost.server.ca)
    yield made
    await made.broker.close()


@pytest.mark.parametrize(
    ("url", "reason", "words"),
    [
        pytest.param(
            lambda vhost: vhost.url_of(SCALER, "wr0ng-marker"),
            Ready.BROKER_REFUSED,
            "is the Secret's password the server's?",
            id="a wrong password",
        ),
        pytest.param(
            lambda vhost: vhost.url_of("nobody", "pw-marker"),
            Ready.BROKER_REFUSED,
            "refuses",
            id="no such user",
        ),
        pytest.param(
            lambda vhost: f"{vhost.scaler_url}-marker", Ready.VHOST_NOT_FOUND, "make it", id="no such vhost"
        ),
        pytest.param(
            lambda vhost: vhost.scaler_url.replace(vhost.name, "%2F"),
            Ready.BROKER_REFUSED,
            "give it rights there",
            id="a vhost that is closed to the user",
        ),
        pytest.param(
            lambda _: f"amqp://u:pw-marker@127.0.0.1:{free_port()}/v",
            Ready.BROKER_UNREACHABLE,
            "cannot be reached",
            id="nobody listens",
        ),
        pytest.param(
            lambda _: "amqp://u:pw-marker@nobody.invalid/v",
            Ready.BROKER_UNREACHABLE,
            "cannot be reached",
            id="no such host",
        ),
        pytest.param(
            lambda vhost: vhost.encrypted(port="http", scheme="amqp"),
            Ready.BROKER_UNREACHABLE,
            "cannot be reached",
            id="a port that speaks HTTP",
        ),
        pytest.param(Vhost.encrypted, Ready.BROKER_NOT_TRUSTED, "name the CA", id="a CA that nobody knows"),
        pytest.param(
            lambda vhost: vhost.encrypted(port="amqp"),
            Ready.BROKER_NOT_TRUSTED,
            "does this port speak it?",
            id="TLS at a port without",
        ),
    ],
)
async def test_broker_of_no_use_is_a_reason_with_a_sentence(
    files: RabbitFiles, vhost: Vhost, url: Callable[[Vhost], str], reason: Ready, words: str
) -> None:
    """The management API alone is not enough: the workers could not be asked, nor queues declared."""
    files.url.write_text(url(vhost))
    backlog = await _known_or_not(files.broker)
    with pytest.raises(ControlUnavailable) as caught:
        files.mailbox.ask([Command("active", frozenset({"a"}))], 0)

    assert (backlog.reason, words in backlog.sentence) == (reason, True), backlog.sentence
    assert "pw-marker" not in backlog.sentence + str(caught.value)
    assert "wr0ng" not in backlog.sentence + str(caught.value)


async def _known_or_not(broker: BrokerByUrl) -> Any:
    backlog = await read(broker, "sums")
    failure = backlog.failure(["sums"])
    assert failure is not None
    return failure


async def test_tls_is_trusted_by_the_ca_that_is_given(trusting: RabbitFiles, vhost: Vhost) -> None:
    """For AMQP and for the management API; by a name that the certificate does not have it is not."""
    trusting.url.write_text(vhost.encrypted())
    trusting.management.write_text(vhost.encrypted("https", "https"))
    backlog = await read(trusting.broker, "sums")

    assert backlog.failure(["sums"]) is None
    assert (backlog.queued(["sums"]), backlog.delivered_due(["sums"])) == (Count(0, 0), Count(0, 0))
    trusting.url.write_text(vhost.encrypted(host="127.1"))
    assert (await _known_or_not(trusting.broker)).reason is Ready.BROKER_NOT_TRUSTED


@pytest.mark.parametrize("part", ["broker", "management"])
async def test_black_hole_ends_in_time(files: RabbitFiles, part: str) -> None:
    """A server that takes the connection and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        if part == "broker":
            files.url.write_text(f"amqp://u:p@127.0.0.1:{port}/v")
        else:
            files.management.write_text(f"http://u:p@127.0.0.1:{port}")
        begin = time.monotonic()
        failure = await _known_or_not(files.broker)

    wanted = Ready.BROKER_UNREACHABLE if part == "broker" else Ready.MANAGEMENT_UNAVAILABLE
    assert failure.reason is wanted
    assert time.monotonic() - begin < ANSWER_SECONDS + CALL_SECONDS


async def test_stopped_process_is_unreachable_and_comes_back(files: RabbitFiles, vhost: Vhost) -> None:
    """A RabbitMQ that hangs with its connections open is told from one that is idle."""
    await read(files.broker, "sums")
    vhost.server.server.signal(signal.SIGSTOP)
    try:
        with contextlib.suppress(BrokerFailure):
            await read(files.broker, "sums")  # its threads stop one after the other, and may still answer
        begin = time.monotonic()
        failure = await failure_of(files.broker, "sums")
        with pytest.raises(ControlUnavailable):
            files.mailbox.ask([Command("active", frozenset({"a"}))], 0)
    finally:
        vhost.server.server.signal(signal.SIGCONT)

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert time.monotonic() - begin < 3 * CALL_SECONDS
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(Exception):
            backlog = await read(files.broker, "sums")
            if backlog.failure(["sums"]) is None:
                break
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert backlog.queued(["sums"]) == Count(0, 0)


async def test_user_that_may_not_ask_for_lengths_goes_by_the_table(
    files: RabbitFiles, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RabbitMQ 4.2.6 and later have it. They log each refusal: it is tried again after a minute only."""
    vhost.declare("quorum", "quorum")
    vhost.server.api(
        "POST",
        f"exchanges/{vhost.name}/amq.default/publish",
        {"routing_key": "quorum", "payload": "", "payload_encoding": "string", "properties": {}},
    )
    asked: list[str] = []

    def refused(_: AmqpChannel, queue: str) -> Unanswered:
        asked.append(queue)
        return Unanswered(BrokerFailure(Ready.BROKER_REFUSED, "refused"), forbidden=True)

    monkeypatch.setattr(AmqpChannel, "_declared", refused)
    deadline = time.monotonic() + 3 * STALE_SECONDS
    while (backlog := await read(files.broker, "quorum")).queued(["quorum"]) != Count(1, 1):
        assert backlog.queued(["quorum"]) == UNKNOWN, "the table's 0 is too young to be one"
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)

    assert asked == ["quorum"]
    assert backlog.failure(["quorum"]) is None


async def test_rotated_password_needs_no_restart(files: RabbitFiles, vhost: Vhost) -> None:
    """The next tick after the files changed goes by what they say: here another user, with no rights."""
    assert (await read(files.broker, "sums")).failure(["sums"]) is None
    vhost.server.api("PUT", "users/next", {"password": "rotated", "tags": "monitoring"})
    vhost.allow("next", {"configure": "", "write": "", "read": ""})
    files.url.write_text(vhost.url_of("next", "rotated"))
    files.management.write_text(vhost.management_url.replace(f"{SCALER}:{SCALER_PASSWORD}", "next:rotated"))
    backlog = await read(files.broker, "sums")
    users = {row["user"] for row in vhost.server.api("GET", f"vhosts/{vhost.name}/connections")}
    vhost.server.api("DELETE", "users/next")

    assert backlog.failure(["sums"]) is None
    assert backlog.queued(["sums"]) == Count(0, 0)
    assert users <= {"next"}


def test_the_scalers_user_can_take_no_message_and_publish_no_task(vhost: Vhost) -> None:
    """What it may do is what remote control and heartbeats need; those tests run with it, too."""
    vhost.declare("sums")
    refused: list[Callable[[amqp.Channel], object]] = [
        lambda channel: channel.basic_get("sums"),
        lambda channel: channel.basic_consume("sums"),
        lambda channel: channel.queue_purge("sums"),
        lambda channel: channel.queue_delete("sums"),
        lambda channel: channel.queue_declare("others"),
        lambda channel: channel.exchange_declare("celery", "direct"),
        lambda channel: channel.exchange_delete("celeryev"),
        lambda channel: channel.basic_publish_confirm(amqp.Message("{}"), "", "sums"),
        lambda channel: channel.basic_publish_confirm(amqp.Message("{}"), "celeryev", "worker.heartbeat"),
    ]
    where = f"127.0.0.1:{vhost.server.ports['amqp']}"
    login = {"userid": SCALER, "password": SCALER_PASSWORD, "virtual_host": vhost.name}
    for attempt in refused:
        with (
            amqp.Connection(where, **login, confirm_publish=True) as connection,
            pytest.raises(AccessRefused),
        ):
            attempt(connection.channel())
    with amqp.Connection(where, **login) as connection:
        channel = connection.channel()
        assert channel.queue_declare("sums", passive=True).message_count == 0
        channel.queue_declare(f"{OWN_PREFIX}test", exclusive=True)
