"""`pulumi destroy` by the real CLI: what its engine hands the provider, and that nothing else goes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.live.stack_file import value_of
from scaler.contract import SCALER_NAME
from tests.infra.pulumi_cli import PulumiProject
from tests.recorded_cluster import NAMESPACE, RecordedCluster

PROGRAM = f"""
import pulumi
from infra.lifecycle import FleetLifecycle, FleetLifecycleArgs
from infra.password import GeneratedPassword

first = GeneratedPassword("first")
args = FleetLifecycleArgs(
    namespace={NAMESPACE!r},
    stack=pulumi.get_stack(),
    deployments=[],
    producers=["sample-app"],
    schema_revision=999,
)
FleetLifecycle("lifecycle", args, pulumi.ResourceOptions(depends_on=[first]))
"""


@dataclass(slots=True)
class Project:
    pulumi_project: PulumiProject
    cluster: RecordedCluster

    def pulumi(self, *arguments: str, succeeds: bool = True) -> str:
        return self.pulumi_project.pulumi(*arguments, succeeds=succeeds)

    def destroy(self, *, succeeds: bool = True) -> str:
        return self.pulumi("destroy", "--yes", "--skip-preview", succeeds=succeeds)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with RecordedCluster(tmp_path / "kubeconfig") as cluster:
        cluster.replicas |= {SCALER_NAME: 1, "sample-app": 2}
        cluster.report("web", queued=5, active=1)
        pulumi_project = PulumiProject.make(tmp_path, PROGRAM, KUBECONFIG=str(cluster.kubeconfig))
        made = Project(pulumi_project, cluster)
        made.pulumi("up", "--yes", "--skip-preview")
        yield made


@pytest.mark.pulumi
def test_the_policy_of_now_counts_and_a_destroy_that_failed_can_be_run_again(project: Project) -> None:
    """`drain` is what the `up` recorded; no `up` comes in between."""
    project.pulumi("config", "set", "onDestroy", "refuse")
    refused = project.destroy(succeeds=False)

    assert "onDestroy refuse: nothing was removed.\n" in refused
    assert "- pool web: 5 queued, 0 unacked, 1 active\n" in refused
    assert "Traceback" not in refused
    assert project.cluster.writes == []

    project.pulumi("config", "set", "onDestroy", "drain")
    project.pulumi("config", "set", "drainTimeoutSeconds", "2")
    late = project.destroy(succeeds=False)

    assert "onDestroy drain: nothing was removed.\n" in late
    assert project.cluster.replicas["sample-app"] == 2
    assert project.pulumi("stack", "--show-urns").count("pulumi-python:dynamic/celeryfleet:") >= 2

    project.cluster.report("web")
    project.pulumi("config", "set", "drainTimeoutSeconds", "60")
    assert "onDestroy drain: no task is left after " in project.destroy()


@pytest.mark.pulumi
def test_an_up_of_an_unchanged_program_brings_a_stopped_producer_back(project: Project) -> None:
    project.cluster.replicas["sample-app"] = 0

    mended = project.pulumi("up", "--yes", "--skip-preview")

    assert "~ 1 updated" in mended
    assert project.cluster.replicas["sample-app"] == 1
    assert "updated" not in project.pulumi("up", "--yes", "--skip-preview")


@pytest.mark.pulumi
def test_discard_gets_through_without_a_cluster(project: Project) -> None:
    project.cluster.stop()
    project.pulumi("config", "set", "onDestroy", "discard")

    assert "removed from the state without asking the cluster" in project.destroy()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("config:\n  celery-fleet:onDestroy: discard\n", "discard"),
        ("config:\n  celery-fleet:onDestroy: 5\n", "5"),
        ("config:\n  celery-fleet:onDestroy:\n    secure: abc\n", ""),
        ("config:\n  other:onDestroy: discard\n", ""),
        ("config: []\n", ""),
        ("{", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("place", ["", "stacks"])
def test_the_file_that_config_set_writes_is_read(tmp_path: Path, text: str, value: str, place: str) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text(f"name: celery-fleet\nstackConfigDir: {place}\n")
    (tmp_path / place / "Pulumi.prod.yaml").write_text(text)

    assert value_of("prod", "onDestroy", tmp_path) == value
    assert value_of("dev", "onDestroy", tmp_path) == ""
