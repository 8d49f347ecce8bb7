"""The program as data for every test of it: settings of the stack files, and what the program declares.

What a stack declares to its lifecycle resource, and a cluster that notes what is asked, are for the tests
that meet that resource without the program.

`record` runs each program in a context of its own, so no test sees another one's resources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.manifests import configuration
from infra.recording import Recorded, record
from infra.settings import Settings, load
from scaler.contract import SCALER_NAME
from tests.recorded_cluster import NAMESPACE, UID, RecordedCluster

STACKS = ("local", "dev", "prod")
PASSWORD = "Marker0Password0That0Must0Not0Show"


def settings(stack: str, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings of a stack file, with other values for some flat keys."""
    return load(configuration(stack, overrides or {}))


def given(**values: Any) -> dict[str, str]:
    """Flat keys as Pulumi hands them over: texts, objects as JSON. `image` is there unless taken out."""
    texts = {"image": "shop:1", **values}
    return {
        f"celery-fleet:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in texts.items()
        if value is not None
    }


@pytest.fixture(scope="module", params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def program(stack: str) -> list[Recorded]:
    """What the program declares for a stack file, for each of them."""
    return record(settings(stack), password=PASSWORD)


def declared(**properties: Any) -> dict[str, Any]:
    return {
        "namespace": NAMESPACE,
        "context": "",
        "kubeconfig_path": "",
        "stack": "test",
        "deployments": [SCALER_NAME, "sample-app"],
        "celeries": {"web": "1"},
        "queues": {"web": "orders,mail"},
        "broker": {"existingSecret": "", "redisPersistence": "default class"},
        "producers": ["sample-app"],
        "config_digest": "1",
        "ready_timeout_seconds": 60,
        "image_timeout_seconds": 60,
        "drain_timeout_seconds": 600,
        "on_destroy": "drain",
        "schema_revision": 999,
        "cluster_uid": UID,
        **properties,
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RecordedCluster]:
    with RecordedCluster(tmp_path / "kubeconfig") as made:
        made.replicas |= {SCALER_NAME: 1, "sample-app": 2}
        made.report("web")
        yield made
