"""What the settings mean for a message between broker and worker: how many one process holds, how long.

It owns the arithmetic and Celery's and kombu's own defaults where a setting leaves the choice to the app.
How the settings reach a worker is in `infra.components.workers`; what is unwise about them, in
`infra.settings.lint`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from infra.settings.backends import POSTGRESQL, RABBITMQ, REDIS
from infra.settings.fields import Settings
from infra.settings.pool import Pool
from infra.settings.quantity import number_of
from scaler import contract

CELERY_PREFETCH: Final = 4
"""`worker_prefetch_multiplier` of an app that does not set it (celery/app/defaults.py)."""
KOMBU_VISIBILITY_SECONDS: Final = 3600
"""`visibility_timeout` of an app that does not set it (kombu/transport/redis.py)."""
RABBITMQ_CONSUMER_SECONDS: Final = 1800
"""RabbitMQ's own `consumer_timeout` (rabbitmq.com/docs/consumers)."""
MARGIN_SECONDS: Final = 600
"""RabbitMQ looks once a minute; the rest is for tasks that take longer than declared."""
LEAST_OVERLAP_SECONDS: Final = 3600
LEAST_CONNECTIONS: Final = 100
CONNECTION_BYTES: Final = 4 * 1024**2
"""Of memory that one connection to PostgreSQL may take, its share of the buffers included."""
AMQP_SCHEMES: Final = ("amqp", "amqps")
REDIS_SCHEMES: Final = ("redis", "rediss", "sentinel")


def prefetched(pool: Pool) -> int:
    """Messages that a worker holds for each process, the one that is acknowledged late included."""
    return 1 if pool.disable_prefetch else pool.prefetch_multiplier or CELERY_PREFETCH


def tasks_of_a_process(pool: Pool) -> int:
    """Tasks that one process may have before it, the running one included.

    A task that is acknowledged when it begins makes room for a further message, unless prefetch is off.
    """
    return prefetched(pool) + (0 if pool.acks_late or pool.disable_prefetch else 1)


def held_seconds(pool: Pool) -> int:
    """The longest that a worker may hold a message without acknowledging it: until its time has come, and
    until those before it in the same process are done."""
    return pool.eta_horizon_seconds + prefetched(pool) * pool.longest_task_seconds


def drain_seconds(pool: Pool) -> int:
    """The deadline of a drain. Its end kills nothing, so it is long enough for the worst case by default."""
    worst = tasks_of_a_process(pool) * pool.longest_task_seconds
    return pool.drain_seconds or min(max(pool.grace_period_seconds, worst), contract.MAX_DRAIN_SECONDS)


def protocol(settings: Settings) -> str:
    """`redis` or `amqp`; "" where only a Secret of the user's says what the broker speaks."""
    if settings.broker in (REDIS, RABBITMQ):
        return {REDIS: "redis", RABBITMQ: "amqp"}[settings.broker]
    scheme = settings.broker_url.partition("://")[0]
    return "amqp" if scheme in AMQP_SCHEMES else "redis" if scheme in REDIS_SCHEMES else ""


def transport_options(settings: Settings) -> Mapping[str, Any]:
    """`broker_transport_options` as one value: Celery replaces the app's whole dictionary by it."""
    timeout = settings.visibility_timeout_seconds
    return {**settings.broker_transport_options, **({"visibility_timeout": timeout} if timeout else {})}


def visibility_seconds(settings: Settings) -> float:
    """Seconds until an unacknowledged message is delivered again."""
    return float(transport_options(settings).get("visibility_timeout", KOMBU_VISIBILITY_SECONDS))


def consumer_seconds(settings: Settings) -> int:
    """Seconds for which a worker may hold a message of RabbitMQ's."""
    if settings.consumer_timeout_seconds or settings.broker != RABBITMQ:
        return settings.consumer_timeout_seconds or RABBITMQ_CONSUMER_SECONDS
    return max(RABBITMQ_CONSUMER_SECONDS, max(map(held_seconds, settings.pools)) + MARGIN_SECONDS)


def results_in_a_database(settings: Settings) -> bool:
    """Which drops none of them itself. A Secret of the user's may hold the URL of one."""
    given = settings.result_backend_url
    theirs = given.startswith(("db+", "database+")) or bool(settings.result_backend_secret)
    return settings.result_backend == POSTGRESQL or theirs


def keeps_data(settings: Settings) -> bool:
    """Whether any server of the stack has a volume that outlives its pod."""
    chosen = (settings.broker, settings.result_backend)
    servers = {
        REDIS: settings.redis_persistence,
        RABBITMQ: settings.rabbitmq_persistence,
        POSTGRESQL: settings.postgresql_persistence,
    }
    return any(kept["enabled"] for name, kept in servers.items() if name in chosen)


def overlap_seconds(settings: Settings) -> int:
    """Seconds for which an old password stays valid beside the new one."""
    longest = max(pool.grace_period_seconds for pool in settings.pools)
    return settings.password_overlap_seconds or max(LEAST_OVERLAP_SECONDS, longest + MARGIN_SECONDS)


def connections(resources: Mapping[str, Any]) -> int:
    """That PostgreSQL takes with these limits. Each process of a worker keeps one
    (celery/backends/database/session.py)."""
    return max(LEAST_CONNECTIONS, int(number_of(str(resources["limits"]["memory"])) / CONNECTION_BYTES))


def processes(settings: Settings) -> int:
    """Of all workers at their most, and of those that a roll-out adds."""
    return sum(math.ceil(pool.max_replicas * 1.25) * pool.concurrency for pool in settings.pools)
