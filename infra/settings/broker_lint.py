"""What is unwise about a stack's broker: how long workers may hold its messages, and what it cannot do.

As `infra.settings.lint`, which asks it: each finding with its consequence and its cure. Redis delivers a
message again after its visibility timeout, RabbitMQ takes it back after its consumer timeout; what each can
and cannot do is the table in `docs/brokers.md`. Of a broker that only a Secret names it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.settings import delivery
from infra.settings.backends import EXTERNAL, POSTGRESQL, QUORUM
from infra.settings.fields import Settings
from infra.settings.finding import Declared, Finding, Severity
from infra.settings.problem import Place, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a worker may hold a message before the broker gives it to another."""

    seconds: float
    name: str = ""
    who: str = ""


def patience(settings: Settings) -> Patience:
    match delivery.protocol(settings):
        case "redis":
            seconds = delivery.visibility_seconds(settings)
            return Patience(seconds=seconds, name="the visibility timeout", who="Redis")
        case "amqp":
            seconds = delivery.consumer_seconds(settings)
            return Patience(seconds=seconds, name="the consumer timeout", who="RabbitMQ")
        case _:
            return Patience(seconds=math.inf)


def broker_findings(settings: Settings, pools: Sequence[Declared]) -> Iterator[Finding]:
    """About the stack as a whole, and about each pool."""
    severity = pools[0].about_tasks
    speaks = delivery.protocol(settings)
    if speaks == "redis":
        yield from _visibility_timeout(settings, severity)
    if speaks == "amqp":
        yield from _consumer_timeout(settings, severity)
        for declared in pools:
            yield from _names(declared)
            yield from _prefetch_all_the_same(declared)
            yield from _delayed(settings, declared)
    yield from _overlap(settings, severity)
    yield from _connections(settings)


def _visibility_timeout(settings: Settings, severity: Severity) -> Iterator[Finding]:
    """One for the stack, judged by the pool that needs it longest."""
    timeout = delivery.visibility_seconds(settings)
    needed = _longest_held(settings)
    if timeout >= needed.seconds:
        return
    given = "visibility_timeout" in settings.broker_transport_options
    key = "brokerTransportOptions.visibility_timeout" if given else "visibilityTimeoutSeconds"
    whose = "" if given or settings.visibility_timeout_seconds else ", kombu's default,"
    yield Finding(
        severity,
        Problem(
            key=key,
            wrong=f"{timeout:.0f} s{whose} are less than {needed.name}",
            effect="Redis gives such a task to a second worker while the first still has it: it runs twice",
            command=Place().set_command(key, max(map(delivery.held_seconds, settings.pools))),
        ),
    )


def _consumer_timeout(settings: Settings, severity: Severity) -> Iterator[Finding]:
    timeout = delivery.consumer_seconds(settings)
    needed = _longest_held(settings)
    if timeout >= needed.seconds:
        return
    held = max(map(delivery.held_seconds, settings.pools)) + delivery.MARGIN_SECONDS
    theirs = settings.broker == EXTERNAL
    whose = "" if settings.consumer_timeout_seconds else ", RabbitMQ's own,"
    raised = f"set consumer_timeout = {held * 1000} on your RabbitMQ, and say so: " if theirs else ""
    yield Finding(
        severity,
        Problem(
            key="consumerTimeoutSeconds",
            wrong=f"{timeout} s{whose} are less than {needed.name}",
            effect="RabbitMQ takes such a task from the worker that still has it: another runs it, too",
            command=raised + Place().set_command("consumerTimeoutSeconds", held if theirs else 0),
        ),
    )


def _longest_held(settings: Settings) -> Patience:
    pool = max(settings.pools, key=lambda pool: pool.longest_task_seconds + pool.eta_horizon_seconds)
    longest, eta = pool.longest_task_seconds, pool.eta_horizon_seconds
    parts = [f"longest task ({longest} s)"] * bool(longest) + [f"furthest ETA ({eta} s)"] * bool(eta)
    return Patience(seconds=longest + eta, name=f"pool {pool.name}'s {' and '.join(parts)}")


def _names(declared: Declared) -> Iterator[Finding]:
    """What no AMQP broker takes (AMQP 0-9-1, queue.declare); every worker would stop at its start."""
    for number, name in enumerate(declared.pool.queues):
        if name.startswith("amq."):
            wrong = f"{name!r} begins with amq., which RabbitMQ keeps for itself"
        elif len(name.encode()) > 255:
            wrong = f"{name[:20]!r}... is longer than 255 bytes"
        else:
            continue
        place = declared.places["queues"]
        yield Finding(
            Severity.ERROR,
            Problem(
                key=place.key(f"queues[{number}]"),
                wrong=wrong,
                effect="RabbitMQ refuses the queue, and every worker of the pool stops at its start",
                command=place.set_command(f"queues[{number}]", "<another name>"),
            ),
        )


def _prefetch_all_the_same(declared: Declared) -> Iterator[Finding]:
    """celery/worker/consumer/tasks.py: with a warning in the log of each worker."""
    if declared.pool.disable_prefetch:
        yield declared.advice(
            Severity.WARNING,
            "disable_prefetch",
            "Celery knows it with Redis only",
            "a worker holds prefetchMultiplier messages for each of its processes all the same",
            "acksLate with prefetchMultiplier 1 comes to the same; then: ",
            "false",
        )


def _delayed(settings: Settings, declared: Declared) -> Iterator[Finding]:
    """Measured with Celery 5.7: the worker says so itself of every direct exchange, Celery's default."""
    pool = declared.pool
    if settings.queue_type == QUORUM and pool.eta_horizon_seconds:
        yield declared.advice(
            Severity.WARNING,
            "eta_horizon_seconds",
            "quorum queues keep the number of messages fixed that a worker holds",
            "delayed tasks fill it, and a worker that holds no other takes none until they are due",
            "give the app topic exchanges (task_default_exchange_type), then RabbitMQ keeps them; and: ",
            0,
        )


def _overlap(settings: Settings, severity: Severity) -> Iterator[Finding]:
    pool = max(settings.pools, key=lambda pool: pool.grace_period_seconds)
    overlap = settings.password_overlap_seconds
    if overlap and overlap < pool.grace_period_seconds:
        yield Finding(
            severity,
            Problem(
                key="passwordOverlapSeconds",
                wrong=f"{overlap} s are less than pool {pool.name}'s grace period "
                f"({pool.grace_period_seconds} s)",
                effect="while a password changes, a worker that finishes its last task has the old one: what "
                "that task publishes over a new connection is refused",
                command=Place().set_command("passwordOverlapSeconds", 0),
            ),
        )


def _connections(settings: Settings) -> Iterator[Finding]:
    if settings.result_backend != POSTGRESQL:
        return
    most = delivery.connections(settings.postgresql_resources)
    processes = delivery.processes(settings)
    if processes > most:
        needed = -(-processes * delivery.CONNECTION_BYTES // 1024**2)
        yield Finding(
            Severity.WARNING,
            Problem(
                key="postgresqlResources.limits.memory",
                wrong=f"gives PostgreSQL {most} connections, and the pools may have {processes} processes",
                effect="those that find none left cannot store the results of their tasks",
                command=Place().set_command("postgresqlResources.limits.memory", f"{needed}Mi"),
            ),
        )
