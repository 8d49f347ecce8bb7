"""Wrong settings as a person at the real CLI sees them: Pulumi's own check of types comes before ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.pulumi_cli import ROOT, PulumiProject

pytestmark = pytest.mark.pulumi


@pytest.fixture
def project(tmp_path: Path) -> PulumiProject:
    """The checkout's own program; there is no cluster, and none is reached."""
    main = (ROOT / "__main__.py").read_text()
    made = PulumiProject.make(tmp_path, main, KUBECONFIG=str(tmp_path / "none"))
    made.pulumi("config", "set", "image", "shop:1")
    return made


@pytest.mark.parametrize(
    ("key", "value", "type_"),
    [
        ("maxReplicas", "ten", "integer"),
        ("minReplicas", "1.5", "integer"),
        ("flower", "maybe", "boolean"),
        ("queues", "mail", "array<string>"),
    ],
)
def test_a_value_of_another_type_is_named_by_pulumi_alone_in_the_words_that_the_readme_quotes(
    project: PulumiProject, key: str, value: str, type_: str
) -> None:
    project.pulumi("config", "set", key, value)
    project.pulumi("config", "set", "averageValue", "0")

    said = project.pulumi("preview", succeeds=False)

    words = "Stack '{}' with configuration key '{}' must be of type '{}'"
    assert said.strip() == f"error: validating stack config: {words.format('here', key, type_)}"
    assert words.format("dev", "maxReplicas", "integer") in (ROOT / "README.md").read_text()


def test_every_other_wrong_value_is_told_at_once_with_effect_and_fix(project: PulumiProject) -> None:
    project.pulumi("config", "set", "minReplicas", "20")
    project.pulumi("config", "set", "concurrency", "0")
    project.pulumi("config", "set", "averageValue", "0")

    said = project.pulumi("preview", succeeds=False)

    assert "stack here: 3 settings are wrong, nothing was changed." in said
    assert said.count("effect: ") == said.count("fix:    pulumi config set") == 3
    assert "Traceback" not in said
