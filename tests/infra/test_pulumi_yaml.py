"""Pulumi.yaml, the README's table and the stack files say what the settings' schema says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra.settings import docs as settings_docs
from infra.settings.rules import FLAT_SETTINGS, POOL_SETTINGS, STACK_SETTINGS
from tests.infra.conftest import STACKS, settings

ROOT = Path(__file__).parents[2]
PULUMI_YAML = (ROOT / "Pulumi.yaml").read_text()


def test_the_config_block_is_the_schema_s() -> None:
    """`python -m infra.settings --write` mends it."""
    assert settings_docs.with_config_block(PULUMI_YAML) == PULUMI_YAML


def test_the_readme_s_table_is_the_schema_s() -> None:
    """`python -m infra.settings --write` mends it."""
    readme = (ROOT / "README.md").read_text()

    assert settings_docs.BEGIN in readme
    assert readme == settings_docs.with_table(readme)


def test_writing_them_keeps_the_rest() -> None:
    assert settings_docs.with_config_block("name: x\nconfig:\n  old: {}\n").startswith(
        "name: x\nconfig:\n  image:"
    )
    marked = f"before {settings_docs.BEGIN}\nold\n{settings_docs.END} after"
    assert settings_docs.with_table(marked) == (
        f"before {settings_docs.BEGIN}\n{settings_docs.table()}{settings_docs.END} after"
    )
    assert settings_docs.with_table("no markers") == "no markers"


def test_every_key_has_type_default_and_description() -> None:
    """A key without a default would be required in every stack (pulumi/pulumi#21797)."""
    for key, declared in yaml.safe_load(PULUMI_YAML)["config"].items():
        assert set(declared) - {"items"} == {"type", "default", "description"}, key
        assert ("items" in declared) == (declared["type"] == "array"), key


def test_the_project_runs_from_its_root_with_its_own_python() -> None:
    """`main` would change the working directory, and the providers' pickles name modules below the root."""
    project = yaml.safe_load(PULUMI_YAML)

    assert project["name"] == "celery-fleet"
    assert "main" not in project
    assert project["runtime"] == {"name": "python", "options": {"toolchain": "pip", "virtualenv": ".venv"}}
    assert project["stackConfigDir"] == "stacks"


def test_every_setting_says_what_it_is() -> None:
    for setting in FLAT_SETTINGS.values():
        assert setting.meaning.endswith("."), setting.name
        if setting.low is not None:
            assert setting.too_high, setting.name
    assert not {setting.name for setting in POOL_SETTINGS.values()} & {
        setting.name for setting in STACK_SETTINGS.values()
    }


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_file_loads_and_says_whom_it_is_for(stack: str) -> None:
    text = (ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text()

    assert text.startswith("# For ")
    assert "secure:" not in text
    assert "encryptionsalt" not in text
    settings(stack)


def test_the_local_stack_is_the_demo_s() -> None:
    local = settings("local")
    (pool,) = local.pools

    assert (pool.min_replicas, pool.max_replicas, pool.average_value) == (2, 4, 100)
    assert (local.flower_node_port, local.sample_app_node_port) == (30555, 30500)
    assert local.sample_app
    assert not local.redis_persistence["enabled"]
    images = (pool.image, local.redis_image, local.image_registry)
    assert all(image.startswith("localhost") for image in images)


def test_production_has_pools_of_its_own_limits() -> None:
    prod = settings("prod")

    assert len(prod.pools) > 1
    assert prod.redis_persistence["enabled"]
    assert not prod.sample_app
    assert prod.on_destroy != "discard"
