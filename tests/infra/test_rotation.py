"""The wait until a server knows its new password: through the server that the engine uses, and in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from infra.live.cluster import ClusterUnavailable
from infra.live.passwords import NotTakenUp, wait_until_in_force
from infra.rotation import RotationProvider
from tests.infra.provider_server import ProviderError, ProviderServer

DECLARED = {
    "namespace": "shop",
    "context": "",
    "kubeconfig_path": "/nowhere/kubeconfig",
    "server": "redis",
    "mark": "m1",
}


def test_the_way_up_waits_for_nothing_and_the_second_up_is_unchanged() -> None:
    """A server that starts reads its Secret first: there is no cluster to be asked here."""
    with ProviderServer(RotationProvider()) as server:
        made = server.up(DECLARED)

        assert server.diff(made, DECLARED) == (False, [])
        assert server.diff(made, {**DECLARED, "kubeconfig_path": "/elsewhere"}) == (False, [])
        assert server.diff(made, {**DECLARED, "mark": "m2"}) == (True, [])
        server.delete(made)


def test_a_cluster_that_cannot_be_asked_ends_the_up_with_a_sentence() -> None:
    with ProviderServer(RotationProvider()) as server:
        made = server.up(DECLARED)
        with pytest.raises(ProviderError, match=r"PasswordNotTakenUp: .*/nowhere/kubeconfig"):
            server.update(made, {**DECLARED, "mark": "m2"})


@dataclass(slots=True)
class Cluster:
    """What each look finds, by its second; the last one stays."""

    logs: Mapping[int, str]
    """Of the server's one pod; a text that begins with `!` is an API server that is away."""
    at: float = 0
    asked: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    def running(self, namespace: str, server: str) -> list[str]:
        assert (namespace, server) == ("shop", "redis")
        if self._log.startswith("!"):
            raise ClusterUnavailable("the API server does not answer")
        return ["redis-1"] if self._log else []

    def ask(self, namespace: str, pod: str) -> None:
        assert (namespace, pod) == ("shop", "redis-1")
        self.asked.append(self.at)

    def read_log(self, namespace: str, pod: str) -> str:
        assert (namespace, pod) == ("shop", "redis-1")
        return self._log

    @property
    def _log(self) -> str:
        return [log for second, log in self.logs.items() if second <= self.at][-1]


def said(*marks: str) -> str:
    lines = (f"celery-fleet: in force is password {mark}" for mark in marks)
    return "\n".join(["1:M Ready to accept connections", *lines])


def wait(cluster: Cluster) -> float:
    wait_until_in_force(cluster, "shop", "redis", "m2", 100, cluster.now, cluster.sleep)
    return cluster.at


@pytest.mark.parametrize(
    ("logs", "seconds"),
    [
        pytest.param({0: said("m1", "m2")}, 0, id="it knows it already"),
        pytest.param({0: said("m1"), 7: said("m1", "m2")}, 7, id="it takes it up in a while"),
        pytest.param({0: said("m2", "m1"), 9: said("m2", "m1", "m2")}, 9, id="the last word counts"),
        pytest.param({0: "", 20: said("m2")}, 20, id="no pod of it runs for a while"),
        pytest.param({0: said("m1"), 3: "!", 25: said("m2")}, 25, id="the API server is away for a while"),
    ],
)
def test_it_ends_when_the_server_says_so(logs: dict[int, str], seconds: float) -> None:
    assert wait(Cluster(logs)) == seconds


def test_a_pod_is_asked_again_now_and_then() -> None:
    """The change that makes the kubelet look may have come before the Secret's."""
    cluster = Cluster({0: said("m1"), 65: said("m2")})
    wait(cluster)

    assert cluster.asked == [0, 30, 60]


def test_an_api_server_that_stays_away_is_an_error() -> None:
    with pytest.raises(ClusterUnavailable):
        wait(Cluster({0: said("m1"), 3: "!"}))


@pytest.mark.parametrize(
    ("log", "last"),
    [
        (said("m1"), "celery-fleet: in force is password m1"),
        (
            f"{said('m1')}\ncelery-fleet: Redis did not take the passwords: ERR",
            "celery-fleet: Redis did not take the passwords: ERR",
        ),
        ("Ready", "its log says nothing of passwords"),
        ("", "no pod of it runs"),
    ],
)
def test_a_server_that_does_not_take_it_up_says_what_it_said(log: str, last: str) -> None:
    """Nobody was changed: what runs goes on with the old password."""
    with pytest.raises(NotTakenUp) as caught:
        wait(Cluster({0: log}))

    assert str(caught.value) == (
        f"redis has not taken its new password up after 100 s: {last}. The old one is in force and no client "
        "was changed. See `kubectl logs deployment/redis -n shop`; `pulumi up` goes on from here"
    )
