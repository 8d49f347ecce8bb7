"""A management API that is away, closed or lying: what workers hold is unknown then, and why is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from tests.conftest import free_port
from tests.rabbitmq import SCALER, SCALER_PASSWORD, USER, Vhost
from tests.scaler.reading import RabbitFiles, read


@pytest.fixture
async def files(vhost: Vhost, tmp_path: Path) -> AsyncIterator[RabbitFiles]:
    vhost.declare("sums")
    made = RabbitFiles(tmp_path, vhost)
    yield made
    await made.broker.close()


async def test_api_over_tls_is_not_trusted_without_its_ca(files: RabbitFiles, vhost: Vhost) -> None:
    files.management.write_text(vhost.encrypted("https", "https"))
    backlog = await read(files.broker, "sums")
    failure = backlog.failure(["sums"])

    assert failure is not None
    assert (failure.reason, "management API" in failure.sentence) == (Ready.BROKER_NOT_TRUSTED, True)


@pytest.mark.parametrize(
    ("url", "reason", "words"),
    [
        pytest.param(
            lambda vhost: vhost.management_url.replace(SCALER_PASSWORD, "pw-marker"),
            Ready.BROKER_REFUSED,
            "the tag monitoring",
            id="a wrong password",
        ),
        pytest.param(
            lambda vhost: vhost.management_url.replace(f"{SCALER}:{SCALER_PASSWORD}", f"{USER}:celery-pw"),
            Ready.BROKER_REFUSED,
            "the tag monitoring",
            id="a user without the tag",
        ),
        pytest.param(
            lambda vhost: f"{vhost.management_url}-none",
            Ready.VHOST_NOT_FOUND,
            "correct the URL's path",
            id="no such vhost",
        ),
        pytest.param(
            lambda _: f"http://u:pw-marker@127.0.0.1:{free_port()}",
            Ready.MANAGEMENT_UNAVAILABLE,
            "rabbitmq_management",
            id="nobody listens",
        ),
        pytest.param(
            lambda vhost: f"http://u:pw-marker@127.0.0.1:{vhost.server.ports['amqp']}",
            Ready.MANAGEMENT_UNAVAILABLE,
            "so no worker is removed",
            id="a port that speaks AMQP",
        ),
        pytest.param(
            lambda _: "amqp://u:pw-marker@h",
            Ready.MANAGEMENT_UNAVAILABLE,
            "must have the form",
            id="no such URL",
        ),
    ],
)
async def test_without_an_api_that_should_be_there_lengths_are_known_and_the_gap_is_told(
    files: RabbitFiles, vhost: Vhost, url: Callable[[Vhost], str], reason: Ready, words: str
) -> None:
    """The pool may grow; what workers hold is unknown, and why is the reason of the condition."""
    files.management.write_text(url(vhost))
    backlog = await read(files.broker, "sums")
    failure = backlog.failure(["sums"])

    assert (backlog.queued(["sums"]), backlog.delivered_due(["sums"])) == (Count(0, 0), UNKNOWN)
    assert failure is not None
    assert (failure.reason, words in failure.sentence) == (reason, True), failure.sentence
    assert "marker" not in failure.sentence


ROW = {
    "name": "sums",
    "type": "classic",
    "state": "running",
    "messages_ready": 3,
    "messages_unacknowledged": 1,
}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        pytest.param(200, "no JSON", Ready.BROKER_UNREADABLE, id="no JSON"),
        pytest.param(200, '{"error": "x"}', Ready.BROKER_UNREADABLE, id="no list"),
        pytest.param(200, json.dumps([ROW | {"messages_ready": "3"}]), Ready.BROKER_UNREADABLE, id="a text"),
        pytest.param(200, json.dumps([ROW | {"messages_ready": 3.5}]), Ready.BROKER_UNREADABLE, id="a part"),
        pytest.param(200, json.dumps([ROW | {"messages_ready": -1}]), Ready.BROKER_NOT_READY, id="below 0"),
        pytest.param(200, json.dumps([ROW | {"state": "crashed"}]), Ready.BROKER_NOT_READY, id="a crash"),
        pytest.param(200, '[{"name": "sums"}]', Ready.BROKER_NOT_READY, id="no figures"),
        pytest.param(503, "", Ready.MANAGEMENT_UNAVAILABLE, id="not ready"),
        pytest.param(302, "", Ready.MANAGEMENT_UNAVAILABLE, id="elsewhere"),
    ],
)
async def test_useless_answer_of_the_api_is_no_number(
    files: RabbitFiles, status: int, body: str, reason: Ready
) -> None:
    async with _answering(status, body) as url:
        files.management.write_text(url)
        backlog = await read(files.broker, "sums")
        failure = backlog.failure(["sums"])

    assert backlog.delivered_due(["sums"]) == UNKNOWN
    assert failure is not None
    assert failure.reason is reason
    await files.broker.close()


async def test_connection_that_refuses_is_not_asked_again(files: RabbitFiles) -> None:
    """Seen of RabbitMQ 4.0: 404 on one that was made while it booted, for minutes, and 200 on any other."""
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        status = "404 x" if connections == 1 else "200 x"
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n[]".encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        files.management.write_text(f"http://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}/celery")
        first, second = await read(files.broker, "sums"), await read(files.broker, "sums")
        await files.broker.close()

    failure = first.failure(["sums"])
    assert failure is not None
    assert failure.reason is Ready.VHOST_NOT_FOUND
    assert second.failure(["sums"]) is None


@contextlib.asynccontextmanager
async def _answering(status: int, body: str) -> AsyncIterator[str]:
    """An API that answers everything with this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = (
            f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nLocation: /\r\nConnection: close\r\n\r\n"
        )
        writer.write(f"{head}{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}"
