"""Redis, as the broker of the stack, as its result backend, or both.

It owns Redis' options, its users and the form of its URL. It is one server: Celery's Redis transport does not
speak to a Redis Cluster, and a replica that takes over without the last second's writes loses tasks silently.

`default` is the workers' user and everybody's. The scaler's may do what `scaler.contract.redis_rights` lists.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from infra.components.server import Program, host, memory_share
from infra.settings import Settings
from scaler import contract

NAME: Final = "redis"
PORT: Final = 6379
SCALER_USER: Final = "celery-scaler"
LOCAL: Final = "/tmp/local-password"  # noqa: S108  # in the container, a path
PING: Final = f"REDISCLI_AUTH=$(cat {LOCAL}) redis-cli --user celery-fleet-local ping | grep -q PONG"
"""redis-cli ends with 0 on an error reply, too."""


def program(settings: Settings) -> Program:
    return Program(
        name=NAME,
        image=settings.redis_image,
        port=PORT,
        resources=settings.redis_resources,
        persistence=settings.redis_persistence,
        data="/data",
        arguments=_options(settings),
        env={"PORT": str(PORT)},
        running={"scaler-may": contract.redis_rights(settings.event_exchange)},
        ready={"exec": {"command": ["sh", "-c", PING]}, "periodSeconds": 5, "timeoutSeconds": 5},
        former_name="broker",
    )


def url(settings: Settings, password: str, user: str = "") -> str:
    return f"redis://{user}:{quote(password, safe='')}@{host(settings, NAME)}:{PORT}/0"


def _options(settings: Settings) -> list[str]:
    """A full Redis refuses new tasks; under every other policy, and by the kernel, queued ones are dropped.

    A quarter of the memory limit stays for buffers, and for copies while the AOF is rewritten.
    """
    most = memory_share(settings.redis_resources, 0.75)
    append_only = "yes" if settings.redis_persistence["enabled"] else "no"
    return [
        *("--dir", "/data", "--save", "", "--appendonly", append_only),
        *("--maxmemory", str(most), "--maxmemory-policy", "noeviction"),
    ]
