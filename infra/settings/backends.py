"""The settings of broker and result backend: which there are, how they are reached, what they keep.

Data, with no behaviour, as `infra.settings.fields` has the rest of the stack's. Which of them go together is
in `infra.settings.backend_rules`, what is unwise about them in `infra.settings.broker_lint`; what a broker
can and cannot do is the table in `docs/brokers.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.settings.doors import Doors
from infra.settings.pool import DAY
from infra.settings.schema import container_resources, persistence, setting

REDIS, RABBITMQ, POSTGRESQL, EXTERNAL, NONE = "redis", "rabbitmq", "postgresql", "external", "none"
CLASSIC, QUORUM = "classic", "quorum"
_ROTATION: Final = (
    "set with `--secret`. Empty means that one is made at random. A new one is taken up while {server} runs: "
    "the old one stays valid for passwordOverlapSeconds, and workers change over one by one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends(Doors):
    """Where tasks wait, and where their results go. In one line with the other settings that
    `infra.settings.fields.Settings` inherits: a class with slots has one parent with slots."""

    broker: str = setting(
        "string",
        REDIS,
        "Broker of the stack: Redis or RabbitMQ in its namespace, or one of yours (`external`), which "
        "brokerUrl or existingSecret names.",
        choices=(REDIS, RABBITMQ, EXTERNAL),
    )
    result_backend: str = setting(
        "string",
        REDIS,
        "Where results go. `redis` is the broker's own Redis, or one beside another broker. `postgresql` "
        "needs SQLAlchemy and its driver in the workers' image (`celery[sqlalchemy] psycopg[binary]`). "
        "`external` is one of yours, which resultBackendUrl or resultBackendSecret names. `none` keeps no "
        "results: tasks run, `get()` and chords do not work.",
        choices=(REDIS, POSTGRESQL, EXTERNAL, NONE),
    )
    broker_url: str = setting(
        "string",
        "",
        "URL of your own broker, set with `--secret`: redis, rediss, sentinel, amqp, amqps. For `external`.",
        secret=True,
    )
    existing_secret: str = setting(
        "string",
        "",
        "Name of a Secret, made by you, that holds the broker's `url`, and for a broker of the stack its "
        "`password`. With `scaler-url` the scaler has a user of its own, with `management-url` it asks "
        "RabbitMQ's management API. Empty means that the stack makes `celery-broker`.",
    )
    result_backend_url: str = setting(
        "string",
        "",
        "URL of your own result backend as Celery takes it, set with `--secret`: "
        "`db+postgresql://user:password@host/database`. For `external`.",
        secret=True,
    )
    result_backend_secret: str = setting(
        "string",
        "",
        "Name of a Secret, made by you, whose key `url` is that URL. For `external`.",
    )
    broker_ca: str = setting(
        "string",
        "",
        "Where the authorities lie that your broker's certificate is checked against, as `secret/NAME` or "
        "`configmap/NAME`, with a key after another slash where it is not `ca.crt`. For rediss and amqps. "
        "Empty means the images' own authorities.",
    )
    broker_transport_options: Mapping[str, Any] = setting(
        "object",
        {},
        "`broker_transport_options` for workers and scaler alike (`sep`, `priority_steps`, "
        "`global_keyprefix`, `master_name`, ...), in place of the app's own, as visibilityTimeoutSeconds is. "
        "Producers outside the stack need the same.",
    )
    visibility_timeout_seconds: int = setting(
        "integer",
        0,
        "Seconds after which a message that no worker acknowledged is delivered again: Redis' "
        "`visibility_timeout`, longer than the longest task and ETA. One for all pools, since the shortest "
        "among the clients of a Redis counts. 0 leaves the app's choice, kombu's own being 3600.",
        low=0,
        high=366 * DAY,
        too_low="tasks that still run, or wait for their time, are delivered again and run twice",
        too_high="tasks of a worker that was killed come back that late",
    )
    consumer_timeout_seconds: int = setting(
        "integer",
        0,
        "Seconds for which a worker may hold a message of RabbitMQ's: its `consumer_timeout`, "
        "longer than the longest task and ETA. 0 means what the pools declare and 600 s more, at least "
        "RabbitMQ's own 1800. Of an external RabbitMQ it says what is set there.",
        low=0,
        high=366 * DAY,
        too_low="RabbitMQ closes the channel of a worker that still runs the task, and it runs twice",
        too_high="messages of a worker that hangs are kept from others that long",
    )
    queue_type: str = setting(
        "string",
        CLASSIC,
        "Type of the queues on RabbitMQ. Quorum queues are its replicated ones; on the stack's own single "
        "node they survive a crash in the middle of a write better and cost more memory and disk. It cannot "
        "be changed while the queues are there.",
        choices=(CLASSIC, QUORUM),
    )
    redis_image: str = setting(
        "string", "redis:8.2", "Image of Redis or Valkey, with `sh`.", too_low="there is no broker"
    )
    redis_password: str = setting(
        "string", "", f"Password of Redis, {_ROTATION.format(server='Redis')}", secret=True
    )
    redis_persistence: Mapping[str, Any] = persistence(
        "Redis", "a restart of Redis loses every queued task, and every result"
    )
    redis_resources: Mapping[str, Any] = container_resources(
        "100m", "256Mi", "1", "1Gi", "1 GiB of memory holds about a million small messages."
    )
    rabbitmq_image: str = setting(
        "string",
        "rabbitmq:4-management",
        "Image of RabbitMQ 4 with its management plugin.",
        too_low="there is no broker",
    )
    rabbitmq_password: str = setting(
        "string", "", f"Password of RabbitMQ, {_ROTATION.format(server='RabbitMQ')}", secret=True
    )
    rabbitmq_persistence: Mapping[str, Any] = persistence(
        "RabbitMQ", "a restart of RabbitMQ loses every queued task"
    )
    rabbitmq_resources: Mapping[str, Any] = container_resources(
        "100m", "256Mi", "1", "1Gi", "RabbitMQ refuses new messages at 60 % of the memory limit."
    )
    postgresql_image: str = setting(
        "string",
        "postgres:17",
        "Image of PostgreSQL, Debian's variant. A later major version cannot read an earlier one's files.",
        too_low="there is no result backend",
    )
    postgresql_password: str = setting(
        "string", "", f"Password of PostgreSQL, {_ROTATION.format(server='PostgreSQL')}", secret=True
    )
    postgresql_persistence: Mapping[str, Any] = persistence(
        "PostgreSQL", "a restart of PostgreSQL loses every result"
    )
    postgresql_resources: Mapping[str, Any] = container_resources("100m", "128Mi", "1", "512Mi")
    result_expire_seconds: int = setting(
        "integer",
        0,
        "Seconds that results are kept (`result_expires`). A database is cleaned by the stack, without beat; "
        "Redis drops them itself. 0 leaves the app's choice, a day being Celery's own and a database's.",
        low=0,
        high=366 * DAY,
        too_low="results are gone before they are asked for",
        too_high="the backend keeps them that long",
    )
    password_generation: int = setting(
        "integer",
        1,
        "Counted up, it makes new passwords in place of those that were made at random, for broker, scaler "
        "and result backend. Flower's stays.",
        low=1,
        high=1_000_000,
        too_low="the passwords stay as they are",
        too_high="any other count makes new ones, too, a lower one as well",
    )
    password_overlap_seconds: int = setting(
        "integer",
        0,
        "Seconds for which an old password stays valid beside the new one: longer than the longest grace "
        "period, and than producers outside the stack need to change over. 0 means that grace period and "
        "600 s more, at least an hour.",
        low=0,
        high=30 * DAY,
        too_low="workers that still finish their tasks cannot reach the broker again",
        too_high="a password that leaked opens the broker that long",
    )
