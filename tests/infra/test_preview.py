"""What a preview refuses because of what the cluster holds, through Pulumi's own provider server."""

from __future__ import annotations

from typing import Any

import pytest

from infra.lifecycle import LifecycleProvider
from scaler.contract import SCALER_NAME
from tests.infra.conftest import declared
from tests.infra.provider_server import UNKNOWN, ProviderServer
from tests.recorded_cluster import NAMESPACE, RecordedCluster

GIVE_UP = "pulumi config set onDestroy discard"


def server(cluster: RecordedCluster) -> ProviderServer:
    return ProviderServer(LifecycleProvider(), environment={"KUBECONFIG": str(cluster.kubeconfig)})


def check(cluster: RecordedCluster, **changes: Any) -> list[tuple[str, str]]:
    with server(cluster) as provider:
        return provider.check(declared(**changes), declared())[1]


LEFT = "with tasks left: 4 queued, 0 unacked, 0 active."
CHANGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a pool removed": (
        {"celeries": {}, "queues": {}},
        "celeries",
        f"pool web would vanish from namespace {NAMESPACE} {LEFT} Declare it",
    ),
    "a pool renamed": (
        {"celeries": {"shop": "1"}, "queues": {"shop": "orders,mail"}},
        "celeries",
        f"pool web would vanish from namespace {NAMESPACE} {LEFT} Declare it",
    ),
    "a queue dropped": (
        {"queues": {"web": "orders"}},
        "queues",
        f"pool web would give queue mail to nobody {LEFT} Keep it in pool web",
    ),
    "a queue moved": (
        {"celeries": {"web": "2", "post": "1"}, "queues": {"web": "orders", "post": "mail"}},
        "queues",
        f"pool web would give queue mail to pool post {LEFT} Keep it in pool web",
    ),
    "another namespace": (
        {"namespace": "elsewhere"},
        "namespace",
        f"pool web would vanish from namespace {NAMESPACE} {LEFT} Keep namespace {NAMESPACE}",
    ),
    "another broker": (
        {"broker": {"existingSecret": "theirs", "redisPersistence": "default class"}},
        "broker",
        (
            "pool web would not find its messages again (existingSecret changes from none to theirs) "
            f"{LEFT} Keep it as it is"
        ),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_would_leave_tasks_behind_is_refused_until_they_are_gone_or_given_up(
    cluster: RecordedCluster, change: str
) -> None:
    changes, key, sentence = CHANGES[change]
    cluster.report("web", queued=4)

    ((blamed, reason),) = check(cluster, **changes)

    assert blamed == key
    cure = f"(kubectl get cel web -n {NAMESPACE}), or give its queued tasks up: {GIVE_UP}"
    assert reason == f"{sentence} until it has drained {cure}"
    assert check(cluster, **changes, on_destroy="discard") == []
    cluster.report("web")
    assert check(cluster, **changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"queues": {"web": "mail,orders,more"}}, id="a queue added"),
        pytest.param({"celeries": {"web": "2"}}, id="other limits"),
        pytest.param({"broker": {}}, id="a program that does not say"),
        pytest.param(
            {
                "broker": {
                    "existingSecret": "",
                    "redisPersistence": "default class",
                    "redisTemplate": "1a2b3c4d",
                }
            },
            id="a newer program that says more than the state does",
        ),
    ],
)
def test_a_change_that_leaves_nothing_behind_is_not_held_up(
    cluster: RecordedCluster, changes: dict[str, Any]
) -> None:
    cluster.report("web", queued=4)

    assert check(cluster, **changes) == []
    assert cluster.looks == 0


def test_a_pool_of_which_nobody_knows_is_not_let_go(cluster: RecordedCluster) -> None:
    cluster.replicas[SCALER_NAME] = 0

    ((_, reason),) = check(cluster, celeries={}, queues={})

    assert "with nobody to say how many tasks are left: no pod of Deployment celery-fleet-scaler" in reason


def test_what_a_first_preview_cannot_know_yet_hides_no_other_autoscaler(cluster: RecordedCluster) -> None:
    """The password is made by the `up`, and with it the digest of the pods and a mark of the broker."""
    cluster.autoscalers["mine"] = SCALER_NAME
    news = declared(config_digest=UNKNOWN, broker={"existingSecret": "", "redisPassword": UNKNOWN})

    with server(cluster) as provider:
        inputs, ((key, reason),) = provider.check(news)

    assert key == "deployments"
    assert f"HorizontalPodAutoscaler mine scales Deployment {SCALER_NAME} too" in reason
    assert (inputs["config_digest"], inputs["broker"]["redisPassword"]) == (UNKNOWN, UNKNOWN)


NOT_MADE = {"config_digest": UNKNOWN}


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        pytest.param(
            {"existingSecret": "theirs", "redisPersistence": "none"},
            {"existingSecret": "", "redisPersistence": "none", "redisPassword": UNKNOWN},
            "(existingSecret changes from theirs to none)",
            id="a Secret of one's own is taken away",
        ),
        pytest.param(
            {"existingSecret": "", "redisPassword": "1a2b3c4d"},
            {"existingSecret": "", "redisPassword": UNKNOWN},
            "(redisPassword changes from 1a2b3c4d to one that is not made yet)",
            id="a password of one's own is taken away",
        ),
    ],
)
def test_a_broker_whose_password_is_still_to_be_made_is_another_broker(
    cluster: RecordedCluster, was: dict[str, str], now: dict[str, str], said: str
) -> None:
    """Left to the `up`, the refusal would come when Redis is changed already."""
    cluster.report("web", queued=4)

    with server(cluster) as provider:
        _, ((key, reason),) = provider.check(declared(**NOT_MADE, broker=now), declared(broker=was))

    assert key == "broker"
    assert said in reason


@pytest.mark.parametrize("unknown", ["celeries", "queues", "on_destroy", "broker"])
def test_a_rule_about_what_is_not_known_yet_waits_for_it(cluster: RecordedCluster, unknown: str) -> None:
    """The one that the test takes away would be refused; all others still speak."""
    cluster.report("web", queued=4)
    cluster.autoscalers["mine"] = "sample-app"
    would = {"celeries": {}, "queues": {"web": "orders"}, "broker": {"existingSecret": "theirs"}}
    news = declared(**{key: would[key] for key in would if key == unknown}, **NOT_MADE)

    with server(cluster) as provider:
        refused = [key for key, _ in provider.check(news, declared())[1]]
        waits = [key for key, _ in provider.check({**news, unknown: UNKNOWN}, declared())[1]]

    assert refused == ["deployments", *([unknown] if unknown in would else [])]
    assert waits == ["deployments"]


def test_without_a_place_to_look_at_nothing_is_said(cluster: RecordedCluster) -> None:
    cluster.autoscalers["mine"] = "sample-app"

    with server(cluster) as provider:
        assert provider.check(declared(namespace=UNKNOWN))[1] == []
