"""How long each policy waits, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from infra.live.cluster import Cluster, ClusterUnavailable
from infra.live.declaration import Declaration, OnDestroy, declaration_of
from infra.live.departure import Clock, NotEmpty, depart
from scaler.emptying import Left, Scaler, Sight

ZERO = Left(queued=0, unacked=0, active=0)
BUSY = Left(queued=9, unacked=0, active=0)
DECLARED: Declaration = declaration_of(
    {"namespace": "shop", "celeries": {"web": "1"}, "producers": ["sample-app"]}
)


@dataclass(slots=True)
class FakeCluster:
    """A cluster as far as a destroy asks it; `plan` says what there is at a second."""

    plan: Callable[[int], Left | Exception]
    now: float = 0.0
    replicas: int = 3
    scaled: list[int] = field(default_factory=list)
    away: bool = False
    runs: bool = True
    """A pod of the scaler is ready."""
    silent: bool = False

    def has_namespace(self, _name: str) -> bool:
        return True

    def read_emptying(self, _namespace: str, names: Iterable[str]) -> Sight:
        found = self.plan(int(self.now))
        if isinstance(found, Exception):
            raise found
        scaler = Scaler(runs=self.runs, pulse="" if self.silent else str(self.now // 5))
        return Sight(pools=dict.fromkeys(names, found), scaler=scaler)

    def scale(self, _namespace: str, _deployment: str, replicas: int) -> int:
        if self.away:
            raise ClusterUnavailable("away")
        self.scaled.append(replicas)
        before, self.replicas = self.replicas, replicas
        return before

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(cluster: FakeCluster, policy: OnDestroy, seconds: int = 600) -> list[str]:
    said: list[str] = []
    clock = Clock(now=lambda: cluster.now, sleep=cluster.sleep)
    depart(policy, DECLARED, cast(Cluster, cluster), seconds, said.append, clock)
    return said


BROKER_GONE = Left(doubt="BrokerUnreachable: no route")


@pytest.mark.parametrize(("policy", "seconds"), [(OnDestroy.DRAIN, 120), (OnDestroy.REFUSE, 30)])
def test_without_a_broker_drain_and_refuse_fail_and_name_discard(policy: OnDestroy, seconds: int) -> None:
    cluster = FakeCluster(lambda _: BROKER_GONE)

    with pytest.raises(NotEmpty, match=r"pool web: BrokerUnreachable: no route(.|\n)*onDestroy discard"):
        run(cluster, policy)

    assert cluster.now == seconds
    assert cluster.replicas == 3


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ({"runs": False}, "no pod of Deployment celery-fleet-scaler is ready"),
        ({"silent": True}, "the scaler has not renewed its Lease"),
    ],
    ids=["no pod ready", "silent"],
)
@pytest.mark.parametrize(("policy", "seconds"), [(OnDestroy.DRAIN, 120), (OnDestroy.REFUSE, 30)])
def test_a_scaler_that_does_not_speak_has_the_patience_of_the_policy(
    lacks: dict[str, Any], reason: str, policy: OnDestroy, seconds: int
) -> None:
    cluster = FakeCluster(lambda _: ZERO, **lacks)

    with pytest.raises(NotEmpty, match=reason):
        run(cluster, policy)

    assert cluster.now == seconds


@pytest.mark.parametrize(("policy", "seconds"), [(OnDestroy.DRAIN, 600), (OnDestroy.REFUSE, 30)])
def test_a_figure_that_is_not_known_is_waited_for_until_a_drains_deadline(
    policy: OnDestroy, seconds: int
) -> None:
    cluster = FakeCluster(lambda _: replace(ZERO, active=None))

    with pytest.raises(NotEmpty, match="pool web: how many tasks are active is not known"):
        run(cluster, policy)

    assert cluster.now == seconds


def test_without_a_broker_discard_gets_through() -> None:
    cluster = FakeCluster(lambda _: BROKER_GONE)

    run(cluster, OnDestroy.DISCARD)

    assert cluster.now == 0
    assert cluster.scaled == []


def test_a_drain_speaks_every_ten_seconds() -> None:
    cluster = FakeCluster(lambda second: BUSY if second < 25 else ZERO)

    said = run(cluster, OnDestroy.DRAIN)

    assert said == [
        "Deployment sample-app, which publishes tasks, is scaled to 0",
        "onDestroy drain: 10 s: pool web: 9 queued, 0 unacked, 0 active",
        "onDestroy drain: 20 s: pool web: 9 queued, 0 unacked, 0 active",
        "onDestroy drain: 30 s: nothing is left; waiting whether it stays so",
        "onDestroy drain: no task is left after 37 s",
    ]
    assert cluster.scaled == [0]


def test_an_outside_producer_that_stops_in_time_is_waited_for() -> None:
    cluster = FakeCluster(lambda second: BUSY if second < 100 and second % 10 < 5 else ZERO)

    run(cluster, OnDestroy.DRAIN)

    assert cluster.now == 95 + 12


def test_a_drain_that_fails_starts_a_producer_that_an_earlier_one_left_at_none() -> None:
    cluster = FakeCluster(lambda _: BUSY, replicas=0)
    said: list[str] = []

    clock = Clock(now=lambda: cluster.now, sleep=cluster.sleep)
    with pytest.raises(NotEmpty):
        depart(OnDestroy.DRAIN, DECLARED, cast(Cluster, cluster), 5, said.append, clock)

    assert said[0] == "Deployment sample-app, which publishes tasks, stands at 0"
    assert cluster.scaled == [0, 1]


def test_an_api_server_that_restarts_does_not_end_a_drain() -> None:
    cluster = FakeCluster(lambda second: ClusterUnavailable("down") if 5 < second < 30 else ZERO)

    run(cluster, OnDestroy.DRAIN)

    assert cluster.now > 30


def test_an_api_server_that_stays_away_ends_it_and_says_what_mends_the_producers() -> None:
    cluster = FakeCluster(lambda second: BUSY if second < 5 else ClusterUnavailable("down"))
    said: list[str] = []

    def sleep(seconds: float) -> None:
        cluster.away = cluster.now > 5
        cluster.sleep(seconds)

    clock = Clock(now=lambda: cluster.now, sleep=sleep)
    with pytest.raises(ClusterUnavailable):
        depart(OnDestroy.DRAIN, DECLARED, cast(Cluster, cluster), 600, said.append, clock)

    assert (
        said[-1]
        == "Deployment sample-app stays at 0: kubectl scale deployment sample-app --replicas=3 -n shop"
    )


def test_an_interrupted_drain_gives_producers_their_replicas_back() -> None:
    cluster = FakeCluster(lambda _: BUSY)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        depart(
            OnDestroy.DRAIN,
            DECLARED,
            cast(Cluster, cluster),
            600,
            lambda _: None,
            Clock(now=lambda: 0.0, sleep=interrupted),
        )

    assert cluster.replicas == 3
