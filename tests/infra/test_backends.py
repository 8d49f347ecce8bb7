"""Each choice of broker and result backend: what it runs, what opens it, and what holds for every stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.components import external
from infra.components.credentials import password_mark
from infra.manifests import configuration
from infra.recording import Hidden, Recorded, record
from infra.settings import Settings, load
from scaler.contract import Env, rabbitmq_permissions
from tests.infra import test_program as program_tests
from tests.infra.conftest import PASSWORD, settings

OWN_REDIS = {"broker": "redis", "resultBackend": "redis"}
REDIS_POSTGRESQL = {"broker": "redis", "resultBackend": "postgresql"}
RABBITMQ_REDIS = {"broker": "rabbitmq", "resultBackend": "redis"}
RABBITMQ_POSTGRESQL = {"broker": "rabbitmq", "resultBackend": "postgresql"}
RABBITMQ_NONE = {"broker": "rabbitmq", "resultBackend": "none", "queueType": "quorum"}
EXTERNAL = {
    "broker": "external",
    "brokerUrl": f"amqps://app:{PASSWORD}@mq.example:5671/shop",
    "brokerCa": "configmap/our-ca/bundle.pem",
    "resultBackend": "external",
    "resultBackendUrl": f"db+postgresql://app:{PASSWORD}@db.example/results",
    "createNamespace": "false",
}
EXTERNAL_SECRETS = {
    "broker": "external",
    "existingSecret": "mq",
    "resultBackend": "external",
    "resultBackendSecret": "db",
    "createNamespace": "false",
}
CHOICES = {
    "redis + redis": OWN_REDIS,
    "redis + postgresql": REDIS_POSTGRESQL,
    "rabbitmq + redis": RABBITMQ_REDIS,
    "rabbitmq + postgresql": RABBITMQ_POSTGRESQL,
    "rabbitmq + none": RABBITMQ_NONE,
    "external + external, by URL": EXTERNAL,
    "external + external, by Secret": EXTERNAL_SECRETS,
}
HOLD: tuple[Callable[[list[Recorded]], None], ...] = (
    program_tests.test_no_input_shows_the_password,
    program_tests.test_every_container_is_limited,
    program_tests.test_every_pod_meets_the_restricted_standard,
    program_tests.test_only_the_scaler_has_a_token,
    program_tests.test_the_scaler_goes_before_what_it_scales,
    program_tests.test_the_lifecycle_depends_on_everything_itself,
    program_tests.test_the_lifecycle_waits_for_every_deployment_and_pool,
    program_tests.test_the_scaler_owns_the_workers_replicas,
    program_tests.test_waiting_for_pods_is_left_to_the_lifecycle_on_the_way_up_only,
    program_tests.test_pulumi_gives_workers_their_grace_period_to_leave,
    program_tests.test_the_definition_stays_when_the_last_stack_goes,
    program_tests.test_nothing_is_declared_that_is_empty,
)
ROOT = Path(__file__).parents[2]
SERVERS = {"redis", "rabbitmq", "postgresql"}


def chosen(choice: Mapping[str, str]) -> Settings:
    """Of the `local` stack, which keeps nothing and has every component."""
    known = configuration("local", choice)
    urls = {f"celery-fleet:{key}" for key in ("brokerUrl", "resultBackendUrl") if key in choice}
    return load(type(known)(stack=known.stack, values=known.values, secret_keys=frozenset(urls)))


@pytest.fixture(scope="module", params=CHOICES)
def choice(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def program(choice: str) -> list[Recorded]:
    return record(chosen(CHOICES[choice]), password=PASSWORD)


@pytest.mark.parametrize("holds", HOLD, ids=lambda holds: holds.__name__.removeprefix("test_"))
def test_what_holds_for_every_stack(program: list[Recorded], holds: Callable[[list[Recorded]], None]) -> None:
    holds(program)


def deployments(program: Iterable[Recorded]) -> dict[str, Mapping[str, Any]]:
    found = program_tests.of_kind(program, "Deployment")
    return {one.inputs["metadata"]["name"]: one.inputs["spec"]["template"]["spec"] for one in found}


def secrets(program: Iterable[Recorded]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for one in program_tests.of_kind(program, "Secret"):
        data = one.inputs["stringData"]
        found[one.inputs["metadata"]["name"]] = data.value if isinstance(data, Hidden) else data
    return found


def environment(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A variable's text, or the Secret and the key that it comes from."""
    found = {}
    for variable in pod["containers"][0]["env"]:
        source = variable.get("valueFrom", {}).get("secretKeyRef")
        found[variable["name"]] = (source["name"], source["key"]) if source else variable.get("value")
    return found


@pytest.mark.parametrize(
    ("choice", "servers", "cleaned", "broker", "results"),
    [
        (OWN_REDIS, {"redis"}, False, "celery-broker", ("celery-broker", "url")),
        (REDIS_POSTGRESQL, {"redis", "postgresql"}, True, "celery-broker", ("celery-result-backend", "url")),
        (RABBITMQ_REDIS, {"rabbitmq", "redis"}, False, "celery-broker", ("celery-result-backend", "url")),
        (
            RABBITMQ_POSTGRESQL,
            {"rabbitmq", "postgresql"},
            True,
            "celery-broker",
            ("celery-result-backend", "url"),
        ),
        (RABBITMQ_NONE, {"rabbitmq"}, False, "celery-broker", "disabled://"),
        (EXTERNAL, set(), True, "celery-broker", ("celery-result-backend", "url")),
        (EXTERNAL_SECRETS, set(), True, "mq", ("db", "url")),
    ],
    ids=CHOICES,
)
def test_a_stack_runs_the_servers_that_it_needs_and_its_clients_know_where(
    choice: dict[str, str], servers: set[str], cleaned: bool, broker: str, results: object
) -> None:
    """Results that a database would keep for ever are cleaned, without beat."""
    found = deployments(record(chosen(choice), password=PASSWORD))

    assert found.keys() & SERVERS == servers
    assert ("result-cleaner" in found) is cleaned
    for name in ("default-celery-worker", "sample-app"):
        known = environment(found[name])
        assert known["CELERY_BROKER_URL"] == (broker, "url"), name
        assert known["CELERY_RESULT_BACKEND"] == results, name


def test_rabbitmqs_users_change_with_their_passwords() -> None:
    """It has one password a user: the next one is valid beside the one before by another name."""
    program = record(chosen(RABBITMQ_POSTGRESQL), password=PASSWORD)
    namespace = "celery-fleet-local"
    mark = password_mark(PASSWORD, salt=namespace)
    host = f"rabbitmq.{namespace}.svc"

    assert secrets(program)["celery-broker"] == {
        "username": f"celery-{mark}",
        "password": PASSWORD,
        "url": f"amqp://celery-{mark}:{PASSWORD}@{host}:5672/celery",
        "scaler-username": f"celery-scaler-{mark}",
        "scaler-password": PASSWORD,
        "scaler-url": f"amqp://celery-scaler-{mark}:{PASSWORD}@{host}:5672/celery",
        "management-url": f"http://celery-scaler-{mark}:{PASSWORD}@{host}:15672/celery",
        "mark": mark,
    }
    assert secrets(program)["celery-result-backend"] == {
        "username": f"celery-{mark}",
        "password": PASSWORD,
        "url": f"db+postgresql://celery-{mark}:{PASSWORD}@postgresql.{namespace}.svc:5432/celery",
        "mark": mark,
    }


def test_the_scaler_gets_its_own_users_files_and_no_other() -> None:
    scaler = deployments(record(chosen(RABBITMQ_NONE), password=PASSWORD))["celery-fleet-scaler"]
    (sources,) = (one["projected"]["sources"] for one in scaler["volumes"] if "projected" in one)

    items = [{"key": "scaler-url", "path": "url"}, {"key": "management-url", "path": "management-url"}]
    assert sources == [{"secret": {"name": "celery-broker", "items": items}}]
    known = environment(scaler)
    assert known[Env.BROKER_URL_FILE] == "/etc/celery-broker/url"
    assert known[Env.BROKER_MANAGEMENT_URL_FILE] == "/etc/celery-broker/management-url"
    assert Env.BROKER_CA_FILE not in known


def test_a_secret_of_the_users_may_have_a_management_url_or_not() -> None:
    """Nobody has to look into it, and one that comes later is found, too."""
    scaler = deployments(record(chosen(EXTERNAL_SECRETS), password=PASSWORD))["celery-fleet-scaler"]
    (sources,) = (one["projected"]["sources"] for one in scaler["volumes"] if "projected" in one)

    management = [{"key": "management-url", "path": "management-url"}]
    assert sources == [
        {"secret": {"name": "mq", "items": [{"key": "url", "path": "url"}]}},
        {"secret": {"name": "mq", "items": management, "optional": True}},
    ]
    assert Env.BROKER_MANAGEMENT_URL_FILE in environment(scaler)


def test_rabbitmq_gives_the_scaler_what_the_contract_lists_for_the_apps_own_names() -> None:
    choice = {**RABBITMQ_NONE, "controlExchange": "shop", "eventExchange": "shop-events"}
    program = record(chosen(choice), password=PASSWORD)
    (taken_up,) = (
        one.inputs["data"]
        for one in program_tests.of_kind(program, "ConfigMap")
        if one.inputs["metadata"]["name"] == "rabbitmq"
    )

    may = rabbitmq_permissions("shop", "shop-events")
    assert {what: taken_up[f"scaler-{what}"] for what in may} == may


def test_quorum_queues_are_what_workers_make_and_the_vhost_gives() -> None:
    found = deployments(record(chosen(RABBITMQ_NONE), password=PASSWORD))
    command = found["default-celery-worker"]["containers"][0]["command"]

    after = command[command.index("--") + 1 :]
    assert {"task.default_queue_type=quorum", "task.create_missing_queue_type=quorum"} <= set(after)
    assert environment(found["rabbitmq"])["QUEUE_TYPE"] == "quorum"


def test_the_management_api_is_inside_only() -> None:
    program = record(chosen(RABBITMQ_NONE), password=PASSWORD)
    (service,) = (
        one.inputs["spec"]
        for one in program_tests.of_kind(program, "Service")
        if one.inputs["metadata"]["name"] == "rabbitmq"
    )

    assert service["type"] == "ClusterIP"
    assert {port["port"] for port in service["ports"]} == {5672, 15672}


def test_servers_outlive_whoever_uses_them_and_know_a_password_before_those_do(
    choice: str, program: list[Recorded]
) -> None:
    """A changed password is in force when the first worker starts anew with it."""
    servers = {f"{name}-{role}" for name in SERVERS for role in ("deployment", "service", "rotation")}
    there = servers & {one.name for one in program}
    for resource in program_tests.of_kind(program, "Deployment"):
        if resource.name in servers:
            continue
        names = {urn.split("::")[-1] for urn in program_tests.before(program, resource)}
        assert there <= names, resource.name
    assert bool(there) is not choice.startswith("external")


def test_a_new_password_starts_its_readers_anew_and_neither_server_nor_scaler() -> None:
    """Those take it up while they run."""
    templates = [
        {
            one.name: one.inputs["spec"]["template"]
            for one in program_tests.of_kind(
                record(chosen(RABBITMQ_POSTGRESQL), password=password), "Deployment"
            )
        }
        for password in (PASSWORD, f"{PASSWORD}2")
    ]

    changed = {name for name, template in templates[0].items() if template != templates[1][name]}
    assert changed == {
        "workers-default-deployment",
        "flower-deployment",
        "sample-app-deployment",
        "result-cleaner-deployment",
    }


def test_authorities_of_ones_own_reach_everybody_who_speaks_to_the_broker() -> None:
    found = deployments(record(chosen(EXTERNAL), password=PASSWORD))

    for name in ("default-celery-worker", "sample-app", "flower", "celery-fleet-scaler"):
        (source,) = (one["configMap"] for one in found[name]["volumes"] if "configMap" in one)
        assert source == {"name": "our-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}, name
    assert environment(found["celery-fleet-scaler"])[Env.BROKER_CA_FILE] == external.CA_FILE
    command = found["default-celery-worker"]["containers"][0]["command"]
    (ssl,) = (word for word in command if word.startswith("broker.use_ssl="))
    assert ssl == (
        'broker.use_ssl=(dict){"ca_certs": "/etc/celery-fleet/broker-ca/ca.crt", "cert_reqs": 2, '
        '"server_hostname": null}'
    )


def test_flower_takes_the_apps_transport_options() -> None:
    """Without the master's name it could not ask the Sentinels, and would see no worker."""
    options = {"master_name": "mymaster", "global_keyprefix": "shop."}
    choice = {
        **EXTERNAL_SECRETS,
        "brokerTransportOptions": json.dumps(options),
        "sampleApp": "false",
    }
    told = environment(deployments(record(chosen(choice)))["flower"])

    ask = "import celery, json; print(json.dumps(celery.current_app.conf.broker_transport_options))"
    name = Env.BROKER_TRANSPORT_OPTIONS.value
    said = subprocess.run(
        [sys.executable, "-c", ask],
        env={name: told[name], "PYTHONPATH": str(ROOT / "flower")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert json.loads(said) == options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("redis://h/0", "redis://h/0", id="no TLS"),
        pytest.param(
            "rediss://u:p@h:1/0",
            f"rediss://u:p@h:1/0?ssl_cert_reqs=required&ssl_ca_certs={external.CA_FILE}",
            id="TLS",
        ),
        pytest.param(
            "rediss://h/0?ssl_cert_reqs=none&health_check_interval=5",
            f"rediss://h/0?health_check_interval=5&ssl_cert_reqs=required&ssl_ca_certs={external.CA_FILE}",
            id="who names authorities wants them checked",
        ),
        pytest.param("rediss://h/0?ssl_ca_certs=/ours", "rediss://h/0?ssl_ca_certs=/ours", id="its own ones"),
        pytest.param("amqps://h/v", "amqps://h/v", id="AMQP takes none from a URL"),
    ],
)
def test_the_url_names_the_authorities_where_it_can(given: str, expected: str) -> None:
    changed = {"broker": "external", "brokerUrl": given, "brokerCa": "secret/ca", "createNamespace": "false"}

    assert external.with_authorities(given, chosen(changed)) == expected


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ("redis://h/0", [6379]),
        ("rediss://:p@h:6390/0", [6390]),
        ("sentinel://a:26379;sentinel://b:26380", [6379, 26379, 26380]),
        ("amqps://u:p@h/v", [5671]),
        ("db+postgresql+psycopg2://u:p@h/d", [5432]),
        ("db+sqlite:///here", []),
        ("", []),
    ],
)
def test_the_ports_that_a_url_leads_to(given: str, ports: list[int]) -> None:
    assert external.ports_of(given) == ports


def test_the_default_is_what_it_was() -> None:
    """A stack of an older program keeps its broker and its objects' names."""
    before = {one.urn for one in record(settings("prod"), password=PASSWORD)}
    after = {one.urn for one in record(settings("prod", OWN_REDIS), password=PASSWORD)}

    assert before == after
