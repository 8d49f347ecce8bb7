"""Which settings of broker and result backend are wrong, alone or together.

Like `infra.settings.rules`, whose form of problems this shares: what is wrong, what it would cause, what
mends it. What only shows when the broker is asked, such as a wrong password, is the scaler's to report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from infra.password import MIN_LENGTH
from infra.settings.backends import EXTERNAL, POSTGRESQL, QUORUM, RABBITMQ, REDIS
from infra.settings.delivery import AMQP_SCHEMES, REDIS_SCHEMES, protocol
from infra.settings.fields import Settings
from infra.settings.problem import Place, Problem
from infra.settings.schema import settings_of

BROKER_SCHEMES: Final = (*REDIS_SCHEMES, *AMQP_SCHEMES)
SECRET_KEYS: Final = tuple(setting.name for setting in settings_of(Settings).values() if setting.secret)
CA: Final = re.compile(r"(secret|configmap)/[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[-._a-zA-Z0-9]+)?")
OF_REDIS: Final = ("sep", "priority_steps", "global_keyprefix", "visibility_timeout", "master_name")
"""Of `broker_transport_options`, those that only kombu's Redis transport reads (kombu/transport/redis.py)."""
PASSWORDS: Final = (
    ("redisPassword", "redis_password", "redis.conf"),
    ("rabbitmqPassword", "rabbitmq_password", "RabbitMQ"),
    ("postgresqlPassword", "postgresql_password", "PostgreSQL"),
)
_TOP: Final = Place()
_UNREAD: Final = "nothing would read it"


def problems_of_backends(settings: Settings, secret_keys: Iterable[str]) -> Iterator[Problem]:
    yield from _broker(settings)
    yield from _result_backend(settings)
    yield from _only_of_the_other(settings)
    yield from _authorities(settings)
    yield from _in_the_clear(settings, secret_keys)
    yield from _passwords(settings)
    yield from _needed_before(settings)


def _broker(settings: Settings) -> Iterator[Problem]:
    url, secret = settings.broker_url, settings.existing_secret
    if settings.broker != EXTERNAL:
        if url:
            yield _unread("brokerUrl", f"broker is {settings.broker}, which the stack runs itself")
    elif not url and not secret:
        yield Problem(
            key="brokerUrl",
            wrong="is missing, and so is existingSecret: broker is external",
            effect="neither workers nor scaler would know where the broker is",
            command="pulumi config set --secret brokerUrl",
        )
    elif url and secret:
        yield _one_of_two("existingSecret", "brokerUrl", "the broker's URL")
    elif url:
        yield from _broker_url(settings)


def _broker_url(settings: Settings) -> Iterator[Problem]:
    """Quotes nothing of the URL but its scheme."""
    url = settings.broker_url
    scheme, there, _ = url.partition("://")
    again = "pulumi config set --secret brokerUrl"
    if not there or scheme not in BROKER_SCHEMES:
        shown = scheme if there and scheme.isascii() and len(scheme) < 20 else "what it is"
        valkey = "; Valkey is spoken to by redis://" if scheme.startswith("valkey") else ""
        yield Problem(
            key="brokerUrl",
            wrong=f"must begin with one of {', '.join(BROKER_SCHEMES)}, not {shown}{valkey}",
            effect="the scaler could not read how much waits there",
            command=again,
        )
        return
    for part in url.split(";"):
        if problem := _wrong_part(part, scheme):
            effect = "neither workers nor scaler would find the broker"
            yield Problem(key="brokerUrl", wrong=problem, effect=effect, command=again)
            return
    if scheme == "sentinel" and not settings.broker_transport_options.get("master_name"):
        yield Problem(
            key="brokerTransportOptions.master_name",
            wrong="is missing: brokerUrl names Sentinels",
            effect="they would not know which Redis is asked for",
            command=_TOP.set_command("brokerTransportOptions.master_name", "mymaster"),
        )


def _wrong_part(part: str, scheme: str) -> str:
    """What is wrong with a URL, or one of several; "" where nothing is."""
    try:
        parts = urlsplit(part)
        port = parts.port
    except ValueError:
        return "has a port that is no number; in a password, `:/@#?` are written as %3A, %2F, %40, %23, %3F"
    if parts.scheme != scheme:
        return f"must have the same scheme in every part, which is {scheme}"
    if not parts.hostname or port == 0:
        return "names no host"
    database = parts.path.strip("/")
    if scheme in ("redis", "rediss") and database and not database.isdigit():
        return "must end with the number of a database, such as /0"
    return ""


def _result_backend(settings: Settings) -> Iterator[Problem]:
    url, secret = settings.result_backend_url, settings.result_backend_secret
    if settings.result_backend != EXTERNAL:
        if url:
            yield _unread("resultBackendUrl", f"resultBackend is {settings.result_backend}")
        if secret:
            yield _unread("resultBackendSecret", f"resultBackend is {settings.result_backend}")
        return
    if not url and not secret:
        yield Problem(
            key="resultBackendUrl",
            wrong="is missing, and so is resultBackendSecret: resultBackend is external",
            effect="workers would not know where results go",
            command="pulumi config set --secret resultBackendUrl",
        )
    elif url and secret:
        yield _one_of_two("resultBackendSecret", "resultBackendUrl", "the result backend's URL")
    elif url and ("://" not in url or url.startswith(("postgres://", "postgresql"))):
        yield Problem(
            key="resultBackendUrl",
            wrong="must be a URL as Celery takes it; a database's begins with db+, as db+postgresql://",
            effect="every worker would stop at its start: Celery knows no such result backend",
            command="pulumi config set --secret resultBackendUrl",
        )


def _only_of_the_other(settings: Settings) -> Iterator[Problem]:
    """Settings that speak of a broker which this one is not."""
    speaks = protocol(settings)
    if speaks == "amqp":
        if settings.visibility_timeout_seconds:
            wrong = "RabbitMQ has none: it gives a worker's messages back when its connection ends"
            yield _unread("visibilityTimeoutSeconds", wrong)
        for name in OF_REDIS:
            if name in settings.broker_transport_options:
                yield _unread(f"brokerTransportOptions.{name}", "is an option of Redis, and this is RabbitMQ")
    if speaks == "redis":
        if settings.queue_type == QUORUM:
            yield _unread("queueType", "Redis has lists, and no types of queues")
        if settings.consumer_timeout_seconds:
            yield _unread("consumerTimeoutSeconds", "Redis has visibilityTimeoutSeconds instead")


def _authorities(settings: Settings) -> Iterator[Problem]:
    given = settings.broker_ca
    if given and settings.broker != EXTERNAL:
        yield _unread("brokerCa", f"the stack's own {settings.broker} is reached without TLS")
    elif given and not CA.fullmatch(given):
        yield Problem(
            key="brokerCa",
            wrong=f"must be secret/NAME or configmap/NAME, with /KEY where that is not ca.crt, not {given!r}",
            effect="no pod could start: the volume is not there",
            command=_TOP.set_command("brokerCa", "configmap/<name>"),
        )


def _in_the_clear(settings: Settings, secret_keys: Iterable[str]) -> Iterator[Problem]:
    for name, setting in settings_of(Settings).items():
        given = getattr(settings, name)
        if setting.secret and given and _opens(setting.name, given) and setting.name not in set(secret_keys):
            yield Problem(
                key=setting.name,
                wrong="is stored in the clear",
                effect="whoever reads the stack's file reads the password",
                command=f"pulumi config set --secret {setting.name}",
            )
    for key in sorted(set(secret_keys) - set(SECRET_KEYS)):
        yield Problem(
            key=key,
            wrong="is set as a secret, and it would be written into a Deployment in the clear",
            effect="whoever may read Deployments reads it",
            command="make a Secret, name it in envFrom, and take it out: " + _TOP.remove_command(key),
        )


def _opens(key: str, given: str) -> bool:
    """An address alone opens nothing: rendered manifests take it, and a Secret of the same name the rest."""
    if not key.endswith("Url"):
        return True
    return any(parts.netloc.count("@") or parts.query for parts in map(urlsplit, given.split(";")))


def _passwords(settings: Settings) -> Iterator[Problem]:
    for key, field, reader in PASSWORDS:
        password: str = getattr(settings, field)
        again = f"pulumi config set --secret {key}"
        if password and settings.existing_secret and _opens_broker(settings, key):
            yield Problem(
                key="existingSecret",
                wrong=f"{key} is given as well",
                effect="only one of them can be the broker's password",
                command=f"pulumi config rm {key}",
            )
        if password and len(password) < MIN_LENGTH:
            yield Problem(
                key=key,
                wrong=f"has fewer than {MIN_LENGTH} characters",
                effect="there is no lock-out: Redis, say, answers some 100,000 guesses a second",
                command=again,
            )
        if not password.isascii() or not password.isprintable() or re.search(r"\s", password):
            yield Problem(
                key=key,
                wrong="must be printable ASCII without blanks",
                effect=f"clients and {reader} would disagree about what it is",
                command=again,
            )


def _opens_broker(settings: Settings, key: str) -> bool:
    return key == {REDIS: "redisPassword", RABBITMQ: "rabbitmqPassword"}.get(settings.broker)


def _needed_before(settings: Settings) -> Iterator[Problem]:
    """What must be in the namespace before the stack is."""
    named = {
        "existingSecret": (settings.existing_secret, "no pod could start: their password is not there yet"),
        "resultBackendSecret": (settings.result_backend_secret, "no worker could start: it is not there yet"),
        "brokerCa": (settings.broker_ca, "no worker could start: it is not there yet"),
        "flowerAuthSecret": (
            settings.flower_auth_secret,
            "Flower could not start: its password is not there yet",
        ),
    }
    for key, (name, effect) in named.items():
        if name and settings.create_namespace:
            yield Problem(
                key=key,
                wrong="the namespace that should hold it is made, and removed, by this stack",
                effect=effect,
                command="pulumi config set createNamespace false",
            )


def images_needed(settings: Settings) -> tuple[str, ...]:
    """Fields of the images that this stack's servers run."""
    return (
        *(["redis_image"] if REDIS in (settings.broker, settings.result_backend) else []),
        *(["rabbitmq_image"] if settings.broker == RABBITMQ else []),
        *(["postgresql_image"] if settings.result_backend == POSTGRESQL else []),
    )


def _unread(key: str, why: str) -> Problem:
    return Problem(key=key, wrong=why, effect=_UNREAD, command=_TOP.remove_command(key))


def _one_of_two(key: str, other: str, what: str) -> Problem:
    return Problem(
        key=key,
        wrong=f"{other} is given as well",
        effect=f"only one of them can be {what}",
        command=f"pulumi config rm {other}",
    )
