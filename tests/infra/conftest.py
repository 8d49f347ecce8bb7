"""The program as data for every test of it: settings of the stack files, and what the program declares.

`record` runs each program in a context of its own, so no test sees another one's resources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from infra.manifests import configuration
from infra.recording import Recorded, record
from infra.settings import Settings, load

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
