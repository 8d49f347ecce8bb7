"""`python -m scaler drain` as a process, on an API server that plays the fleet."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler import contract
from scaler.commands.drain import drain
from scaler.contract import CRD_NAME, SCALER_NAME, Env
from tests.recorded_cluster import NAMESPACE, RecordedCluster
from tests.scaler.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RecordedCluster]:
    with RecordedCluster(tmp_path / "kubeconfig") as made:
        made.replicas |= {SCALER_NAME: 1, "web-celery-worker": 2}
        made.report("web")
        yield made


def run(cluster: RecordedCluster, *arguments: str, namespace: str = NAMESPACE) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    done = subprocess.run(
        [sys.executable, "-m", "scaler", "drain", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONWARNINGS": "error",
            Env.NAMESPACE: namespace,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_it_returns_when_the_queues_stay_empty_and_writes_nothing(cluster: RecordedCluster) -> None:
    cluster.report("web", queued=500, unacked=2, active=2)
    threading.Timer(3, cluster.report, ("web",)).start()

    code, said, wrong = run(cluster)

    assert (code, wrong) == (0, "")
    assert "no task is left after " in said
    assert cluster.writes == []


def test_at_its_deadline_it_says_what_is_left(cluster: RecordedCluster) -> None:
    cluster.report("web", queued=500, unacked=2, active=2)

    code, _, wrong = run(cluster, "--timeout", "2")

    assert code == 1
    assert wrong.startswith("the fleet is not known to be empty; deleting it now would lose what is left:\n")
    assert "- pool web: 500 queued, 2 unacked, 2 active\n" in wrong


def test_without_a_scaler_it_does_not_guess(cluster: RecordedCluster) -> None:
    del cluster.replicas[SCALER_NAME]

    code, _, wrong = run(cluster)

    assert code == 1
    assert f"- Deployment {SCALER_NAME} is gone, so nobody counts\n" in wrong


def test_without_the_definition_it_does_not_guess(cluster: RecordedCluster) -> None:
    cluster.defined = False

    code, _, wrong = run(cluster)

    assert code == 1
    assert f"- the definition {CRD_NAME} is gone" in wrong


def test_rights_that_lack_are_named_at_once(cluster: RecordedCluster) -> None:
    cluster.forbidden = (f"/leases/{SCALER_NAME}",)

    code, _, wrong = run(cluster)

    assert code == 1
    assert f"the scaler may not get leases in namespace {NAMESPACE}" in wrong


@pytest.mark.parametrize(
    "arguments", [[], ["--namespace", "shop", "--timeout", "0"], ["--timeout", "soon"]], ids=str
)
def test_wrong_arguments_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        drain(arguments, {})

    assert raised.value.code == 2
    assert "scaler drain" in capsys.readouterr().err


def test_the_scalers_role_is_enough() -> None:
    """Lists, and its own Lease: as `contract.RBAC_RULES` grants them."""
    granted = {
        (verb, resource)
        for rule in contract.RBAC_RULES
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }

    assert {("list", contract.PLURAL), ("list", "deployments"), ("get", "leases")} <= granted


@pytest.mark.cluster
def test_on_a_real_cluster_with_the_scalers_rights(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """No scaler runs there: that much the Role lets it find out."""
    assert drain(["--namespace", site.namespace], {}) == 1

    assert f"Deployment {SCALER_NAME} is gone" in capsys.readouterr().err
