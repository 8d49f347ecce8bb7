"""A redis-server that is away, hung, protected or lying: each gives its reason, none a number."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.broker.broker_by_url import BrokerByUrl
from scaler.broker.redis_connection import ANSWER_SECONDS
from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN, Count
from tests.conftest import RedisServer, free_port
from tests.scaler.reading import failure_of, point, pointed_at, read


async def test_restart_of_redis_is_met_by_a_new_connection(
    broker: BrokerByUrl, redis_server: RedisServer
) -> None:
    """A connection that died between two ticks costs neither tick."""
    await read(broker, "sums")
    redis_server.stop()
    redis_server.start()

    assert (await read(broker, "sums")).queued(["sums"]) == Count(0, 0)


async def test_refused_connection_is_unreachable_and_comes_back(
    broker: BrokerByUrl, redis_server: RedisServer
) -> None:
    """Nothing is known while Redis is away, and the first read after it is a good one."""
    redis_server.stop()
    failure = await failure_of(broker, "sums")
    redis_server.start()

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert str(redis_server.port) in failure.sentence
    assert (await read(broker, "sums")).queued(["sums"]) == Count(0, 0)


async def test_black_hole_is_unreachable_in_time(url_file: Path) -> None:
    """A server that takes the connection and never answers ends the read at its deadline."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point(url_file, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        reader = BrokerByUrl(UrlFile(url_file), Layout())
        begin = time.monotonic()
        failure = await failure_of(reader, "sums")

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert "no answer within 1.5 s" in failure.sentence
    assert time.monotonic() - begin < ANSWER_SECONDS + 0.5


async def test_stopped_process_is_unreachable_and_comes_back(
    broker: BrokerByUrl, redis_server: RedisServer
) -> None:
    """A Redis that hangs with its connections open is told from one that is idle."""
    await read(broker, "sums")
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    failure = await failure_of(broker, "sums")
    redis_server.process.send_signal(signal.SIGCONT)

    assert failure.reason is Ready.BROKER_UNREACHABLE
    assert (await read(broker, "sums")).queued(["sums"]) == Count(0, 0)


async def test_name_that_does_not_resolve_is_unreachable(url_file: Path) -> None:
    """A wrong host name is said in a sentence."""
    point(url_file, "redis://nobody.invalid:6379/0")

    assert (
        await failure_of(BrokerByUrl(UrlFile(url_file), Layout()), "sums")
    ).reason is Ready.BROKER_UNREACHABLE


async def scripted(url_file: Path, replies: list[bytes]) -> BrokerFailure | Backlog:
    """Read from a server that answers every request with these bytes."""

    answering: list[asyncio.Task[Any] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            for reply in replies:
                if not await reader.read(65536):
                    break
                writer.write(reply)
                await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    port = free_port()
    point(url_file, f"redis://127.0.0.1:{port}/0")
    reader = BrokerByUrl(UrlFile(url_file), Layout(priority_steps=(0,)))
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        try:
            return await reader.read(["sums"], time.time())
        except BrokerFailure as failure:
            return failure
        finally:
            await reader.close()
            await asyncio.wait_for(asyncio.gather(*(task for task in answering if task)), 5)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(b"-LOADING Redis is loading\r\n", Ready.BROKER_NOT_READY, id="loading its data"),
        pytest.param(b"-MASTERDOWN link down\r\n", Ready.BROKER_NOT_READY, id="a replica without its master"),
        pytest.param(b"-READONLY replica\r\n", Ready.BROKER_NOT_READY, id="a replica"),
        pytest.param(b"-CLUSTERDOWN hash slot\r\n", Ready.BROKER_NOT_READY, id="a cluster that is down"),
        pytest.param(b"-BUSY script running\r\n", Ready.BROKER_NOT_READY, id="busy with a script"),
        pytest.param(b"-MISCONF cannot persist\r\n", Ready.BROKER_NOT_READY, id="a full disk"),
        pytest.param(b"-NOAUTH Authentication required.\r\n", Ready.BROKER_REFUSED, id="no password given"),
        pytest.param(b"-NOPERM no permissions\r\n", Ready.BROKER_REFUSED, id="no rights to the key"),
        pytest.param(b"-MOVED 3999 127.0.0.1:1\r\n", Ready.BROKER_UNREADABLE, id="a cluster's redirection"),
        pytest.param(b"-ERR unknown command\r\n", Ready.BROKER_UNREADABLE, id="not Redis at all"),
        pytest.param(b":-1\r\n", Ready.BROKER_UNREADABLE, id="a negative length"),
        pytest.param(b"$3\r\nnan\r\n", Ready.BROKER_UNREADABLE, id="a length that is a text"),
        pytest.param(b"*0\r\n", Ready.BROKER_UNREADABLE, id="a length that is a list"),
    ],
)
async def test_useless_answer_is_unknown_with_its_reason(url_file: Path, reply: bytes, reason: Ready) -> None:
    """Whatever is answered in the place of a length is not a length, and not 0."""
    found = await scripted(url_file, [reply + b":0\r\n", b"*0\r\n*0\r\n"])

    if isinstance(found, Backlog):
        assert found.queued(["sums"]) == UNKNOWN
        failure = found.failure(["sums"])
    else:
        failure = found
    assert failure is not None
    assert failure.reason is reason


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x01\x02\r\n", b""])
async def test_bytes_that_are_no_protocol_are_a_failure(url_file: Path, reply: bytes) -> None:
    """A port that speaks something else gives no number."""
    assert isinstance(await scripted(url_file, [reply]), BrokerFailure)


async def test_huge_length_is_a_number(url_file: Path) -> None:
    """2^63 - 1 is what Redis could say, and the bounds of the decision take care of it."""
    found = await scripted(url_file, [b":9223372036854775807\r\n:0\r\n", b"*0\r\n*0\r\n"])

    assert isinstance(found, Backlog)
    assert found.queued(["sums"]) == Count.exactly(2**63 - 1)


async def test_password_is_needed_wrong_rotated_and_never_told(url_file: Path, redis: Redis) -> None:
    """A Secret that changes is read again without a restart, and no sentence holds what is in it."""
    base = pointed_at(url_file)
    reader = BrokerByUrl(UrlFile(url_file), Layout())
    await read(reader, "sums")
    redis.config_set("requirepass", "s3cret-marker")
    redis.client_kill_filter(_type="normal", skipme=True)

    missing = await failure_of(reader, "sums")
    point(url_file, f"redis://:wr0ng-marker@{base}")
    wrong = await failure_of(reader, "sums")
    point(url_file, f"redis://:s3cret-marker@{base}")
    backlog = await read(reader, "sums")
    await reader.close()

    assert (missing.reason, wrong.reason) == (Ready.BROKER_REFUSED, Ready.BROKER_REFUSED)
    assert "marker" not in missing.sentence + wrong.sentence + repr(reader.__dict__)
    assert backlog.queued(["sums"]) == Count(0, 0)


async def test_user_without_rights_is_refused(url_file: Path, redis: Redis) -> None:
    """An ACL that allows some keys leaves those exact and names the others."""
    redis.acl_setuser(
        "scaler", enabled=True, passwords=["+pw"], keys=["sums*", "unacked"], commands=["+@all"]
    )
    point(url_file, f"redis://scaler:pw@{pointed_at(url_file)}")
    reader = BrokerByUrl(UrlFile(url_file), Layout())
    backlog = await read(reader, "sums", "mails")
    await reader.close()

    assert backlog.queued(["sums"]) == Count(0, 0)
    failure = backlog.failure(["mails"])
    assert failure is not None
    assert failure.reason is Ready.BROKER_REFUSED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("kafka://u:pw-marker@h:9092//", "amqp:// or amqps://, not kafka", id="another broker"),
        pytest.param("redis://:pw-marker@h:port/0", "form", id="a port that is no number"),
        pytest.param("redis://:pw-marker@h:6379/zero", "form", id="a database that is no number"),
        pytest.param("pw-marker", "must begin with redis://", id="no URL at all"),
        pytest.param("", "must begin with redis://", id="an empty file"),
    ],
)
async def test_url_of_no_use_is_said_without_repeating_it(url_file: Path, text: str, words: str) -> None:
    """The sentence says what a URL looks like, and nothing of what was given."""
    point(url_file, text)
    failure = await failure_of(BrokerByUrl(UrlFile(url_file), Layout()), "sums")

    assert failure.reason is Ready.BROKER_URL_INVALID
    assert words in failure.sentence
    assert "marker" not in failure.sentence


async def test_missing_url_file_is_unreachable(tmp_path: Path) -> None:
    """A Secret that is not there yet is an outage like another."""
    failure = await failure_of(BrokerByUrl(UrlFile(tmp_path / "none"), Layout()), "sums")

    assert failure.reason is Ready.BROKER_UNREACHABLE
