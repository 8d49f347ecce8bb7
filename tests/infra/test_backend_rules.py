"""Wrong settings of broker and result backend, and unwise ones: what is said at the preview."""

from __future__ import annotations

from typing import Any

import pytest

from infra.settings import Configuration, Settings, WrongSettings, load
from tests.infra.conftest import given

URL_KEYS = frozenset({"celery-fleet:brokerUrl", "celery-fleet:resultBackendUrl"})
MARKER = "s3cret-marker"
THERE = {"createNamespace": "false"}
EXTERNAL = {"broker": "external", **THERE}
UNREAD = "nothing would read it"


def loaded(values: dict[str, Any]) -> Settings:
    return load(Configuration(stack="dev", values=given(**values), secret_keys=URL_KEYS))


def said(key: str, wrong: str, effect: str, fix: str) -> str:
    return f"  {key}: {wrong}\n    effect: {effect}\n    fix:    {fix}"


NO_HOST = "neither workers nor scaler would find the broker"
AGAIN = "pulumi config set --secret brokerUrl"
UNREADABLE = "the scaler could not read how much waits there"
SCHEMES = "must begin with one of redis, rediss, sentinel, amqp, amqps"

WRONG = [
    pytest.param(
        {"broker": "kafka"},
        said(
            "broker",
            "must be one of redis, rabbitmq, external, not 'kafka'",
            "it would be refused where it is used, after half of the stack is there",
            "pulumi config set broker redis",
        ),
        id="no such broker",
    ),
    pytest.param(
        EXTERNAL,
        said(
            "brokerUrl",
            "is missing, and so is existingSecret: broker is external",
            "neither workers nor scaler would know where the broker is",
            AGAIN,
        ),
        id="an external broker without an address",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": f"kafka://u:{MARKER}@h"},
        said("brokerUrl", f"{SCHEMES}, not kafka", UNREADABLE, AGAIN),
        id="a scheme that is none",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": f"valkeys://:{MARKER}@h"},
        said(
            "brokerUrl",
            f"{SCHEMES}, not valkeys; Valkey is spoken to by redis://",
            UNREADABLE,
            AGAIN,
        ),
        id="Valkey by its own name",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": MARKER},
        said("brokerUrl", f"{SCHEMES}, not what it is", UNREADABLE, AGAIN),
        id="no URL at all, which may be a password",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": f"redis://:{MARKER}/x@h/0"},
        said(
            "brokerUrl",
            "has a port that is no number; in a password, `:/@#?` are written as %3A, %2F, %40, %23, %3F",
            NO_HOST,
            AGAIN,
        ),
        id="a slash in a password ends the address",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "redis://h/shop"},
        said("brokerUrl", "must end with the number of a database, such as /0", NO_HOST, AGAIN),
        id="a database with a name",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "sentinel://a:26379;redis://b"},
        said("brokerUrl", "must have the same scheme in every part, which is sentinel", NO_HOST, AGAIN),
        id="Sentinels and something else",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "sentinel://a:26379"},
        said(
            "brokerTransportOptions.master_name",
            "is missing: brokerUrl names Sentinels",
            "they would not know which Redis is asked for",
            "pulumi config set --path brokerTransportOptions.master_name mymaster",
        ),
        id="Sentinels of no master",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "redis://h/0", "existingSecret": "mq"},
        said(
            "existingSecret",
            "brokerUrl is given as well",
            "only one of them can be the broker's URL",
            "pulumi config rm brokerUrl",
        ),
        id="two addresses",
    ),
    pytest.param(
        {"brokerUrl": "redis://h/0"},
        said(
            "brokerUrl",
            "broker is redis, which the stack runs itself",
            UNREAD,
            "pulumi config rm brokerUrl",
        ),
        id="an address of the stack's own broker",
    ),
    pytest.param(
        {"brokerCa": "configmap/ca", **THERE},
        said(
            "brokerCa",
            "the stack's own redis is reached without TLS",
            UNREAD,
            "pulumi config rm brokerCa",
        ),
        id="authorities without TLS",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "rediss://h/0", "brokerCa": "ca"},
        said(
            "brokerCa",
            "must be secret/NAME or configmap/NAME, with /KEY where that is not ca.crt, not 'ca'",
            "no pod could start: the volume is not there",
            "pulumi config set brokerCa 'configmap/<name>'",
        ),
        id="authorities in no place",
    ),
    pytest.param(
        {**THERE, "resultBackend": "external", "resultBackendUrl": f"postgresql://u:{MARKER}@h/d"},
        said(
            "resultBackendUrl",
            "must be a URL as Celery takes it; a database's begins with db+, as db+postgresql://",
            "every worker would stop at its start: Celery knows no such result backend",
            "pulumi config set --secret resultBackendUrl",
        ),
        id="a database without Celery's prefix",
    ),
    pytest.param(
        {"resultBackend": "external"},
        said(
            "resultBackendUrl",
            "is missing, and so is resultBackendSecret: resultBackend is external",
            "workers would not know where results go",
            "pulumi config set --secret resultBackendUrl",
        ),
        id="an external result backend without an address",
    ),
    pytest.param(
        {"queueType": "quorum"},
        said("queueType", "Redis has lists, and no types of queues", UNREAD, "pulumi config rm queueType"),
        id="quorum queues of Redis",
    ),
    pytest.param(
        {"broker": "rabbitmq", "visibilityTimeoutSeconds": "60"},
        said(
            "visibilityTimeoutSeconds",
            "RabbitMQ has none: it gives a worker's messages back when its connection ends",
            UNREAD,
            "pulumi config rm visibilityTimeoutSeconds",
        ),
        id="a visibility timeout of RabbitMQ",
    ),
    pytest.param(
        {"broker": "rabbitmq", "queues": ["amq.mail"]},
        said(
            "queues[0]",
            "'amq.mail' begins with amq., which RabbitMQ keeps for itself",
            "RabbitMQ refuses the queue, and every worker of the pool stops at its start",
            "pulumi config set --path 'queues[0]' '<another name>'",
        ),
        id="a queue that RabbitMQ does not have",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "redis://h/0", "createNamespace": "true", "brokerCa": "secret/ca"},
        said(
            "brokerCa",
            "the namespace that should hold it is made, and removed, by this stack",
            "no worker could start: it is not there yet",
            "pulumi config set createNamespace false",
        ),
        id="authorities in a namespace that is not there yet",
    ),
]


@pytest.mark.parametrize(("values", "expected"), WRONG)
def test_what_is_wrong_is_said_before_anything_is_made(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(WrongSettings) as wrong:
        loaded(values)

    assert str(wrong.value) == f"stack dev: one setting is wrong, nothing was changed.\n{expected}"
    assert MARKER not in str(wrong.value)


def test_a_secret_setting_in_the_clear_is_told_and_not_shown() -> None:
    """By its name alone."""
    values = given(broker="rabbitmq", rabbitmqPassword=f"{MARKER}-in-the-clear")
    with pytest.raises(WrongSettings) as wrong:
        load(Configuration(stack="dev", values=values))

    assert "  rabbitmqPassword: is stored in the clear\n" in str(wrong.value)
    assert "pulumi config set --secret rabbitmqPassword" in str(wrong.value)
    assert MARKER not in str(wrong.value)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("amqps://mq.example:5671/shop", False),
        ("sentinel://a:26379;sentinel://b:26379", False),
        ("amqps://shop@mq.example/shop", True),
        (f"redis://:{MARKER}@h/0", True),
        (f"sentinel://a:26379;sentinel://:{MARKER}@b:26379", True),
        (f"rediss://h/0?ssl_keyfile_password={MARKER}", True),
    ],
)
def test_an_address_alone_is_no_secret(url: str, secret: bool) -> None:
    options = {"master_name": "m"} if url.startswith("sentinel") else {}
    values = given(**EXTERNAL, brokerUrl=url, brokerTransportOptions=options)
    said = complaint_about(values)

    assert ("brokerUrl: is stored in the clear" in said) is secret
    assert bool(said) is secret
    assert MARKER not in said


def complaint_about(values: dict[str, str]) -> str:
    try:
        load(Configuration(stack="dev", values=values))
    except WrongSettings as wrong:
        return str(wrong)
    return ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:a%3Ab%2Fc@h:6380/3",
        "redis://:with:colon@h/0",
        "rediss://user:pw@[2001:db8::1]:6380/0?ssl_cert_reqs=required",
        "amqp://u:p@h/",
        "amqps://u:p@h:5671/a%2Fvhost",
    ],
)
def test_what_kombu_takes_is_right(url: str) -> None:
    assert loaded({**EXTERNAL, "brokerUrl": url}).broker_url == url


RABBITMQ = {"broker": "rabbitmq"}
UNWISE = [
    pytest.param(
        {**RABBITMQ, "longestTaskSeconds": "3600", "consumerTimeoutSeconds": "1800"}
        | {"gracePeriodSeconds": "3700", "prefetchMultiplier": "1", "averageValue": "1"},
        said(
            "consumerTimeoutSeconds",
            "1800 s are less than pool default's longest task (3600 s)",
            "RabbitMQ takes such a task from the worker that still has it: another runs it, too",
            "pulumi config set consumerTimeoutSeconds 0",
        ),
        id="RabbitMQ loses patience",
    ),
    pytest.param(
        {**EXTERNAL, "brokerUrl": "amqp://h/v", "longestTaskSeconds": "3600"}
        | {"gracePeriodSeconds": "3700", "prefetchMultiplier": "1", "averageValue": "1"},
        said(
            "consumerTimeoutSeconds",
            "1800 s, RabbitMQ's own, are less than pool default's longest task (3600 s)",
            "RabbitMQ takes such a task from the worker that still has it: another runs it, too",
            "set consumer_timeout = 4200000 on your RabbitMQ, and say so: "
            "pulumi config set consumerTimeoutSeconds 4200",
        ),
        id="a RabbitMQ of one's own loses patience",
    ),
    pytest.param(
        {**RABBITMQ, "disablePrefetch": "true"},
        said(
            "disablePrefetch",
            "Celery knows it with Redis only",
            "a worker holds prefetchMultiplier messages for each of its processes all the same",
            "acksLate with prefetchMultiplier 1 comes to the same; then: "
            "pulumi config set disablePrefetch false",
        ),
        id="prefetch cannot be switched off on RabbitMQ",
    ),
    pytest.param(
        {**RABBITMQ, "queueType": "quorum", "etaHorizonSeconds": "60"},
        said(
            "etaHorizonSeconds",
            "quorum queues keep the number of messages fixed that a worker holds",
            "delayed tasks fill it, and a worker that holds no other takes none until they are due",
            "give the app topic exchanges (task_default_exchange_type), then RabbitMQ keeps them; and: "
            "pulumi config set etaHorizonSeconds 0",
        ),
        id="delayed tasks on quorum queues",
    ),
    pytest.param(
        {"passwordOverlapSeconds": "30"},
        said(
            "passwordOverlapSeconds",
            "30 s are less than pool default's grace period (300 s)",
            "while a password changes, a worker that finishes its last task has the old one: what that task "
            "publishes over a new connection is refused",
            "pulumi config set passwordOverlapSeconds 0",
        ),
        id="an old password that ends before its last user",
    ),
    pytest.param(
        {"resultBackend": "postgresql", "maxReplicas": "100", "concurrency": "8"},
        said(
            "postgresqlResources.limits.memory",
            "gives PostgreSQL 128 connections, and the pools may have 1000 processes",
            "those that find none left cannot store the results of their tasks",
            "pulumi config set --path postgresqlResources.limits.memory 4000Mi",
        ),
        id="more processes than connections",
    ),
]


@pytest.mark.parametrize(("values", "expected"), UNWISE)
def test_what_is_unwise_is_a_warning(values: dict[str, Any], expected: str) -> None:
    assert [f"  {warning}" for warning in loaded(values).warnings] == [expected]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(
            {**RABBITMQ, "longestTaskSeconds": "3600", "gracePeriodSeconds": "3700"}
            | {"prefetchMultiplier": "1", "averageValue": "1"},
            id="the stack's own RabbitMQ waits as long as its tasks take",
        ),
        pytest.param(
            {**THERE, "broker": "external", "existingSecret": "mq", "longestTaskSeconds": "5000"}
            | {"gracePeriodSeconds": "6000", "prefetchMultiplier": "1", "averageValue": "1"},
            id="what a Secret holds is not guessed",
        ),
    ],
)
def test_what_suits_its_broker_is_quiet(values: dict[str, Any]) -> None:
    assert loaded(values).warnings == ()
