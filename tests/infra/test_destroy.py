"""`pulumi destroy`'s first step through Pulumi's own provider server, on a cluster that notes every write."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from infra.lifecycle import LifecycleProvider
from scaler.contract import CRD_NAME, PLURAL, SCALER_NAME, Ready
from tests.infra.conftest import declared
from tests.infra.provider_server import ProviderError, ProviderServer, Resource
from tests.recorded_cluster import NAMESPACE, WATCHING, RecordedCluster

GIVE_UP = "pulumi config set onDestroy discard"
SCALE = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/sample-app/scale"


def destroy(
    cluster: RecordedCluster, config: Mapping[str, str] | None = None, **properties: Any
) -> tuple[str, str]:
    """What a destroy that fails says, and what it said meanwhile; the first is "" where it succeeds."""
    environment = {"KUBECONFIG": str(cluster.kubeconfig)}
    state = declared(**properties)
    server = ProviderServer(LifecycleProvider(), config=config or {}, environment=environment)
    with server:
        raised = ""
        try:
            server.delete(Resource("id", state, json.loads(json.dumps(state), parse_int=float)))
        except ProviderError as error:
            raised = str(error)
        said = server.stop()
    _, _, failure = raised.partition("LifecycleFailed: ")
    assert bool(failure) == bool(raised), raised
    return failure.strip(), said


def test_a_drain_stops_the_stacks_producers_and_returns_when_the_queues_stay_empty(
    cluster: RecordedCluster,
) -> None:
    cluster.report("web", queued=5000, unacked=20, active=20)
    threading.Timer(4, cluster.report, ("web",)).start()
    began = time.monotonic()

    failure, said = destroy(cluster)

    assert failure == ""
    assert time.monotonic() - began > 4 + 9
    assert cluster.writes == [("PATCH", SCALE, {"spec": {"replicas": 0}})]
    assert "Deployment sample-app, which publishes tasks, is scaled to 0" in said
    assert "onDestroy drain: 10 s: " in said
    assert "onDestroy drain: no task is left after " in said


def test_a_drain_that_fails_says_what_is_left_and_gives_producers_their_replicas_back(
    cluster: RecordedCluster,
) -> None:
    """An outside producer that never stops. The deadline is the configuration's of now, not the state's."""
    cluster.report("web", queued=12, unacked=1, active=1)
    cluster.report("mail", queued=3, active=None)

    failure, _ = destroy(cluster, {"celery-fleet:drainTimeoutSeconds": "3"})

    first, *lines, waited, cure = failure.splitlines()
    assert first == "onDestroy drain: nothing was removed."
    assert lines == [
        "- pool mail: 3 queued, 0 unacked, unknown active",
        "- pool web: 12 queued, 1 unacked, 1 active",
    ]
    assert waited.endswith(" s of at most 3 s")
    assert "pulumi config set drainTimeoutSeconds" in cure
    assert GIVE_UP in cure
    assert cluster.replicas["sample-app"] == 2


def test_a_refusal_says_what_is_left_and_writes_nothing(cluster: RecordedCluster) -> None:
    cluster.report("web", active=1)

    failure, _ = destroy(cluster, {"celery-fleet:onDestroy": "refuse"})

    assert failure == (
        "onDestroy refuse: nothing was removed.\n- pool web: 0 queued, 0 unacked, 1 active\n"
        "To finish them first: pulumi config set onDestroy drain. To give up what is queued (running tasks "
        f"still finish): {GIVE_UP}. Then `pulumi destroy` again"
    )
    assert cluster.writes == []


def test_an_empty_fleet_is_not_refused(cluster: RecordedCluster) -> None:
    assert destroy(cluster, on_destroy="refuse")[0] == ""
    assert cluster.writes == []


def test_discard_needs_no_up_and_asks_nothing(cluster: RecordedCluster) -> None:
    cluster.report("web", queued=5000, unacked=20, active=20)

    failure, said = destroy(cluster, {"celery-fleet:onDestroy": "discard"})

    assert failure == ""
    assert "running tasks have their grace period, queued ones go with the broker" in said
    assert cluster.looks == 0
    assert cluster.writes == []


def test_a_policy_that_does_not_exist_removes_nothing(cluster: RecordedCluster) -> None:
    failure, _ = destroy(cluster, {"celery-fleet:onDestroy": "dicsard"})

    assert failure == (
        "onDestroy must be one of drain, refuse, discard, not 'dicsard'; nothing was removed. Correct it: "
        "pulumi config set onDestroy drain"
    )


def test_tasks_that_are_due_after_the_deadline_are_named_without_waiting_for_it(
    cluster: RecordedCluster,
) -> None:
    cluster.report("web", unacked=3, notDue=3, nextDueTime="2126-01-01T00:00:00.000000Z")

    failure, _ = destroy(cluster)

    assert (
        "- pool web: 0 queued, 3 unacked, 0 active; 3 of them not due yet, the next at 2126-01-01T00:00:00Z"
        in failure.splitlines()
    )


def without_scaler(cluster: RecordedCluster) -> None:
    del cluster.replicas[SCALER_NAME]


def without_definition(cluster: RecordedCluster) -> None:
    cluster.defined = False


def without_object(cluster: RecordedCluster) -> None:
    cluster.pools.clear()


@pytest.mark.parametrize(
    ("lose", "line"),
    [
        (without_scaler, f"- Deployment {SCALER_NAME} is gone, so nobody counts"),
        (without_definition, f"- the definition {CRD_NAME} is gone, and every Celery object with it"),
        (without_object, "- pool web: its Celery object is gone, so nobody counts its tasks"),
    ],
)
@pytest.mark.parametrize("policy", ["drain", "refuse", "discard"])
def test_where_something_is_gone_only_discard_gets_through(
    cluster: RecordedCluster, policy: str, lose: Any, line: str
) -> None:
    lose(cluster)

    failure, _ = destroy(cluster, {"celery-fleet:onDestroy": policy})

    if policy == "discard":
        assert failure == ""
        return
    assert line in failure.splitlines()
    assert GIVE_UP in failure
    assert cluster.replicas["sample-app"] == 2


def test_without_a_broker_a_refusal_names_what_is_unknown(cluster: RecordedCluster) -> None:
    """The same row for `drain` takes its longer patience: see test_departure."""
    down = {**WATCHING, "status": "False", "reason": Ready.BROKER_UNREACHABLE, "message": "no route"}
    cluster.pools["web"] = {"conditions": [down]}

    failure, _ = destroy(cluster, {"celery-fleet:onDestroy": "refuse"})

    assert "- pool web: BrokerUnreachable: no route" in failure.splitlines()
    assert cluster.writes == []


@pytest.mark.parametrize("policy", ["drain", "refuse", "discard"])
def test_where_the_cluster_does_not_answer_only_discard_gets_through(
    cluster: RecordedCluster, policy: str
) -> None:
    cluster.stop()

    failure, said = destroy(cluster, {"celery-fleet:onDestroy": policy})

    if policy == "discard":
        assert failure == ""
        assert "removed from the state without asking the cluster" in said
    else:
        assert f"onDestroy {policy}: nothing was removed." in failure
        assert "cannot be reached" in failure
        assert GIVE_UP in failure


@pytest.mark.parametrize("policy", ["drain", "refuse", "discard"])
def test_another_cluster_is_not_touched_whatever_the_policy(cluster: RecordedCluster, policy: str) -> None:
    failure, _ = destroy(cluster, on_destroy=policy, cluster_uid="another")

    assert "this is another cluster than the stack was deployed to" in failure
    assert cluster.writes == []


def test_a_producer_that_may_not_be_stopped_is_named_and_the_drain_goes_on(cluster: RecordedCluster) -> None:
    cluster.forbidden = ("/sample-app/scale",)

    failure, said = destroy(cluster)

    assert failure == ""
    assert "Deployment sample-app goes on publishing while the queues empty" in said


def up(cluster: RecordedCluster, resource: Resource) -> tuple[Resource, str]:
    """`pulumi up` with an unchanged program, and what it said."""
    environment = {"KUBECONFIG": str(cluster.kubeconfig)}
    with ProviderServer(LifecycleProvider(), environment=environment) as server:
        return server.up(declared(), resource), server.stop()


def test_producers_that_a_killed_drain_left_at_none_come_back_with_the_next_up(
    cluster: RecordedCluster,
) -> None:
    cluster.report("web", queued=5)
    environment = {"KUBECONFIG": str(cluster.kubeconfig)}
    resource = Resource("id", declared(), declared())
    with ProviderServer(LifecycleProvider(), environment=environment) as server:

        def destroy_it() -> None:
            with pytest.raises(ProviderError):
                server.delete(resource)

        destroyed = threading.Thread(target=destroy_it)
        destroyed.start()
        deadline = time.monotonic() + 60
        while cluster.replicas["sample-app"] != 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.kill()
        destroyed.join()
    assert cluster.replicas["sample-app"] == 0

    after, said = up(cluster, resource)

    assert cluster.replicas["sample-app"] == 1
    assert "Deployment sample-app, which publishes tasks, stood at 0: it is scaled to 1" in said
    assert up(cluster, after)[0] is after


def test_a_drain_that_fails_after_a_killed_one_leaves_no_producer_at_none(cluster: RecordedCluster) -> None:
    cluster.report("web", queued=5)
    cluster.replicas["sample-app"] = 0

    failure, _ = destroy(cluster, {"celery-fleet:drainTimeoutSeconds": "2"})

    assert "- pool web: 5 queued, 0 unacked, 0 active" in failure
    assert cluster.replicas["sample-app"] == 1


@pytest.mark.parametrize("policy", ["drain", "refuse", "discard"])
def test_where_the_cluster_forbids_the_look_only_discard_gets_through(
    cluster: RecordedCluster, policy: str
) -> None:
    cluster.forbidden = (f"/{PLURAL}",)

    failure, _ = destroy(cluster, on_destroy=policy)

    if policy == "discard":
        assert failure == ""
        return
    assert f"onDestroy {policy}: nothing was removed.\n- your user may not do what this needs: " in failure
    assert GIVE_UP in failure
    assert cluster.replicas["sample-app"] == 2
