"""compose.yaml is what the renderer prints, and its services are the stack's Deployments."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from infra import compose
from infra.recording import record
from infra.settings import WrongSettings
from scaler.contract import SCALER_NAME
from tests.infra.conftest import settings

NEEDED = "${CELERY_FLEET_PASSWORD:?missing in .env}"


def services(stack: str, **overrides: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose.render(settings(stack, overrides)))["services"]
    return found


def test_the_file_is_up_to_date() -> None:
    """`python -m infra.compose --stack local --write` brings it up to date."""
    assert compose.FILE.read_text() == compose.render(settings("local"))


def test_its_services_are_the_stack_s_deployments_but_for_the_scaler(stack: str) -> None:
    deployments = {
        found.inputs["metadata"]["name"]: found.inputs["spec"]
        for found in record(settings(stack))
        if found.inputs.get("kind") == "Deployment"
    }
    found = services(stack)

    assert found.keys() == deployments.keys() - {SCALER_NAME}
    for name, service in found.items():
        container = deployments[name]["template"]["spec"]["containers"][0]
        if name != "redis":
            assert service["image"] == container["image"]
        assert service["deploy"]["replicas"] == deployments[name]["replicas"]
        assert service["stop_grace_period"] == (
            f"{deployments[name]['template']['spec']['terminationGracePeriodSeconds']}s"
        )


def test_the_password_is_a_variable_that_must_be_there(stack: str) -> None:
    found = services(stack)

    assert found["redis"]["environment"]["REDIS_PASSWORD"] == NEEDED
    workers = next(service for name, service in found.items() if name.endswith("-celery-worker"))
    assert workers["environment"]["CELERY_BROKER_URL"] == f"redis://:{NEEDED}@redis:6379/0"
    assert found["flower"]["environment"]["FLOWER_BASIC_AUTH"] == f"admin:{NEEDED}"
    assert compose.STAND_IN not in json.dumps(found)


def test_every_service_is_as_confined_as_its_pod(stack: str) -> None:
    for name, service in services(stack).items():
        assert service["user"] == "65532:65532", name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name


def test_pages_are_on_this_machine_only() -> None:
    found = services("local")

    assert {name: service["ports"] for name, service in found.items() if "ports" in service} == {
        "flower": ["127.0.0.1:30555:5555"],
        "sample-app": ["127.0.0.1:30500:8000"],
    }


def test_workers_are_named_after_their_container() -> None:
    command = services("local")["default-celery-worker"]["entrypoint"]

    assert command[command.index("-n") + 1] == "worker@%h"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"envFrom": '[{"secretRef": {"name": "shop"}}]'}, "init containers and envFrom have no twin"),
        (
            {
                "volumes": '[{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]',
                "volumeMounts": '[{"name": "models", "mountPath": "/models"}]',
            },
            "volume models has no twin",
        ),
    ],
)
def test_what_has_no_twin_is_refused(overrides: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSettings, match=said):
        compose.render(settings("dev", overrides))
