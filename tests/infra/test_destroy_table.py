"""Rows of docs/decisions/0012-destroy.md that take patience: each policy through Pulumi's provider server.

All destroys run at the same time, each on a cluster of its own. `drain` gets a deadline of 3 s here; its own
patience of 120 s is tested on a clock of the test's, in test_departure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from infra.lifecycle import LifecycleProvider
from scaler.contract import SCALER_NAME
from tests.infra.conftest import declared
from tests.infra.provider_server import ProviderError, ProviderServer, Resource
from tests.recorded_cluster import NAMESPACE, RecordedCluster

POLICIES = ("drain", "refuse", "discard")


def no_pod(cluster: RecordedCluster) -> None:
    cluster.replicas[SCALER_NAME] = 0


def silent(cluster: RecordedCluster) -> None:
    cluster.beating = False


def unknown_figure(cluster: RecordedCluster) -> None:
    cluster.report("web", active=None)


def no_namespace(cluster: RecordedCluster) -> None:
    cluster.namespaced = False


LINES: dict[Callable[[RecordedCluster], None], str] = {
    no_pod: f"- no pod of Deployment {SCALER_NAME} is ready",
    silent: f"- the scaler has not renewed its Lease {SCALER_NAME} for ",
    unknown_figure: "- pool web: how many tasks are active is not known",
}
"""What a destroy that fails names."""
Case = tuple[Callable[[RecordedCluster], None], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    failure: str
    said: str
    replicas: int
    """Of the sample app, afterwards."""
    writes: int


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Case, Outcome]:
    cases = [(lose, policy) for lose in (*LINES, no_namespace) for policy in POLICIES]

    folder = tmp_path_factory.mktemp("clusters")

    def run(case: Case) -> Outcome:
        lose, policy = case
        with RecordedCluster(folder / f"{lose.__name__}-{policy}") as cluster:
            cluster.replicas |= {SCALER_NAME: 1, "sample-app": 2}
            cluster.report("web")
            lose(cluster)
            return destroyed(cluster, policy)

    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(run, cases), strict=True))


def destroyed(cluster: RecordedCluster, policy: str) -> Outcome:
    state = declared(on_destroy=policy, drain_timeout_seconds=3)
    environment = {"KUBECONFIG": str(cluster.kubeconfig)}
    failure = ""
    with ProviderServer(LifecycleProvider(), environment=environment) as server:
        try:
            server.delete(Resource("id", state, state))
        except ProviderError as error:
            failure = str(error).partition("LifecycleFailed: ")[2] or f"not for people: {error}"
        said = server.stop()
    return Outcome(failure, said, cluster.replicas["sample-app"], len(cluster.writes))


@pytest.mark.parametrize("policy", ["drain", "refuse"])
@pytest.mark.parametrize("lose", LINES)
def test_what_nobody_can_say_fails_with_its_reason_and_names_discard(
    outcomes: Mapping[Case, Outcome], lose: Callable[[RecordedCluster], None], policy: str
) -> None:
    outcome = outcomes[lose, policy]

    assert outcome.failure.startswith(f"onDestroy {policy}: nothing was removed.\n{LINES[lose]}")
    assert "pulumi config set onDestroy discard" in outcome.failure
    assert outcome.replicas == 2
    assert outcome.writes == (2 if policy == "drain" else 0)  # the sample app stopped, and brought back


@pytest.mark.parametrize("lose", LINES)
def test_discard_gets_through_whatever_is_unknown(
    outcomes: Mapping[Case, Outcome], lose: Callable[[RecordedCluster], None]
) -> None:
    outcome = outcomes[lose, "discard"]

    assert (outcome.failure, outcome.writes) == ("", 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_without_a_namespace_there_is_nothing_to_wait_for(
    outcomes: Mapping[Case, Outcome], policy: str
) -> None:
    outcome = outcomes[no_namespace, policy]

    assert (outcome.failure, outcome.writes) == ("", 0)
    gone = f"namespace {NAMESPACE} is gone, with its broker: there is nothing to wait for"
    assert (gone in outcome.said) == (policy != "discard")
