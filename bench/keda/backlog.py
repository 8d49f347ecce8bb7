"""Owns what is seen of the broker from moment to moment, read at the broker itself and the same for all.

From this machine, which is devcluster's node and reaches Services. A look that Redis does not answer is left
out. What the pods do in the meantime is `tests.e2e.course`'s.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

import redis

from bench.keda.systems import LIST
from tests.e2e.follower import repeated
from tests.e2e.stack import Stack

LOOK_SECONDS: Final = 0.2
UNACKED: Final = "unacked"
"""kombu's hash of the messages that workers hold (kombu/transport/redis.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    at: float
    queued: int
    unacked: int


@dataclass(slots=True)
class Backlog:
    """The looks so far; the follower appends, everybody reads."""

    redis_version: str
    looks: list[Waiting] = field(default_factory=list)

    @property
    def now(self) -> Waiting:
        return self.looks[-1]

    def empty_at(self, since: float) -> float | None:
        """When nothing was queued nor held for the first time since then."""
        return next((look.at for look in self.looks if look.at >= since and not _is_work(look)), None)


@contextmanager
def read(stack: Stack) -> Iterator[Backlog]:
    client = _client(stack)
    backlog = Backlog(redis_version=str(client.info("server")["redis_version"]))

    def look() -> None:
        backlog.looks.append(_look(client))

    look()
    with closing(client), repeated(look, pause_seconds=LOOK_SECONDS, passing=redis.RedisError):
        yield backlog


def _client(stack: Stack) -> redis.Redis:
    secret = stack.get("secret", "celery-broker")["data"]
    return redis.Redis(
        host=stack.get("service", "redis")["spec"]["clusterIP"],
        password=base64.b64decode(secret["password"]).decode(),
        socket_timeout=5,
    )


def _look(client: redis.Redis) -> Waiting:
    pipeline = client.pipeline(transaction=True)
    pipeline.llen(LIST)
    pipeline.hlen(UNACKED)
    queued, unacked = pipeline.execute()
    return Waiting(at=time.time(), queued=queued, unacked=unacked)


def _is_work(look: Waiting) -> bool:
    return bool(look.queued or look.unacked)
