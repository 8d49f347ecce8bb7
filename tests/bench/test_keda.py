"""What the comparison with KEDA reads off a run, that the page hides no row in which we are behind, and that
both systems are told the same limits. What needs a cluster is run by `make bench-keda` alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.keda.backlog import Backlog, Waiting
from bench.keda.figures import Figures, figures
from bench.keda.load import FLOOD, LONG
from bench.keda.page import Comparison
from bench.keda.systems import SYSTEMS, System, objects
from demo.cluster import Cluster
from demo.images import Built
from infra import settings
from infra.manifests import configuration
from tests.e2e.course import Moment
from tests.e2e.stack import Stack, settings_of


def moment(at: float, *, replicas: int, pods: int, ready: int | None = None) -> Moment:
    return Moment(
        at=at,
        replicas=replicas,
        pods=pods,
        ready=pods if ready is None else ready,
        living=(),
        draining=frozenset(),
        marked=frozenset(),
        condition="",
    )


GROWN = (
    moment(90, replicas=2, pods=2),
    moment(100, replicas=2, pods=2),
    moment(103, replicas=4, pods=4, ready=2),
    moment(106, replicas=4, pods=4),
)
SHRUNK = (moment(150, replicas=2, pods=4, ready=2), moment(153, replicas=2, pods=2))


@pytest.mark.parametrize(
    ("moments", "done", "expected"),
    [
        pytest.param(
            (*GROWN, *SHRUNK, moment(160, replicas=2, pods=2)),
            140,
            # 3 s of 2 pods, then 4 until they are gone
            Figures(first_up=3, at_most=6, done=40, back=53, pod_seconds=3 * 2 + 50 * 4),
            id="out and in again",
        ),
        pytest.param(
            (*GROWN, *SHRUNK, moment(160, replicas=2, pods=2)),
            158,
            Figures(first_up=3, at_most=6, done=58, back=53, pod_seconds=3 * 2 + 50 * 4 + 5 * 2),
            id="back at the fewest before the work is done",
        ),
        pytest.param(
            (*GROWN, *SHRUNK, moment(160, replicas=3, pods=3), moment(170, replicas=2, pods=2)),
            140,
            Figures(first_up=3, at_most=6, done=40, back=70, pod_seconds=3 * 2 + 50 * 4 + 7 * 2 + 10 * 3),
            id="back counts from the last time above the fewest",
        ),
        pytest.param(
            GROWN,
            None,
            Figures(first_up=3, at_most=6, done=None, back=None, pod_seconds=None),
            id="a run that ended at its deadline has no figure made up",
        ),
        pytest.param(
            GROWN[:2],
            140,
            Figures(first_up=None, at_most=None, done=40, back=None, pod_seconds=None),
            id="what never grew is not back",
        ),
    ],
)
def test_figures_of_a_run(moments: tuple[Moment, ...], done: float | None, expected: Figures) -> None:
    assert figures(moments, began=100, done=done, least=2, most=4) == expected


def run(first_up: float | None = 7, finished: int = 24) -> Figures:
    others = {"megabytes": 50.0, "killed": 0, "undone": 0, "finished": finished}
    return Figures(first_up=first_up, at_most=9, done=100, back=160, pod_seconds=500, others=others)


def comparison(ours: list[Figures], theirs: list[Figures]) -> Comparison:
    runs = {system.name: theirs if system.is_keda else ours for system in SYSTEMS}
    return Comparison(
        date="2026-11-26",
        machine="m",
        versions="v",
        repeats=len(ours),
        flood=runs,
        long={system.name: [run()] for system in SYSTEMS},
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param([run(7.04)], [run(7.0)], 0, id="equal as shown is not behind"),
        pytest.param([run(7.1)], [run(7.0)], 2, id="later than each KEDA of its kind"),
        pytest.param([run(None)], [run(7.0)], 2, id="never reached is behind"),
        pytest.param([run(None)], [run(None)], 0, id="reached by nobody"),
        pytest.param([run(1), run(9), run(2)], [run(3)] * 3, 0, id="medians are compared"),
    ],
)
def test_rows_in_which_we_are_behind_are_named(
    ours: list[Figures], theirs: list[Figures], expected: int
) -> None:
    behind = comparison(ours, theirs).behind()

    assert [line.partition(" (")[0] for line in behind] == ["Flood: first scale-up, s"] * expected


def test_more_finished_tasks_are_better() -> None:
    runs = {system.name: [run(finished=24 if system.is_keda else 23)] for system in SYSTEMS}
    compared = Comparison(date="d", machine="m", versions="v", repeats=1, flood=runs, long=runs)

    assert [line.partition(" (")[0] for line in compared.behind()] == [
        "Long tasks: tasks finished, of 24"
    ] * 2


def test_a_cell_tells_the_spread_and_what_was_missed() -> None:
    rows = comparison([run(1), run(4), run(None)], [run(3)]).rows()

    assert rows[1] == [
        "Flood: first scale-up, s",
        "2.5 (1 to 4), not reached 1 x",
        "3",
        "2.5 (1 to 4), not reached 1 x",
        "3",
    ]


def test_the_page_has_every_row_and_names_those_in_which_we_are_behind() -> None:
    compared = comparison([run(7.1)], [run(7.0)])
    page = compared.markdown()

    assert [line for line in page.splitlines() if line.startswith(("| Flood:", "| Long tasks:"))] == [
        f"| {' | '.join(row)} |" for row in compared.rows()[1:]
    ]
    assert "- Flood: first scale-up, s (Celery Fleet 7.1, KEDA + HPA 7)." in page.splitlines()
    assert "- Flood: first scale-up, s (Celery Fleet, tuned 7.1, KEDA + HPA, tuned 7)." in page.splitlines()


def looked(at: float, queued: int, unacked: int) -> Waiting:
    return Waiting(at=at, queued=queued, unacked=unacked)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        pytest.param(0, 1, id="at the first empty look"),
        pytest.param(2, 4, id="what is held is not done"),
        pytest.param(5, None, id="nothing was empty since"),
    ],
)
def test_when_the_broker_was_empty(since: float, expected: float | None) -> None:
    looks = [looked(1, 0, 0), looked(2, 5, 0), looked(3, 0, 2), looked(4, 0, 0), looked(5, 1, 0)]

    assert Backlog(redis_version="8", looks=looks).empty_at(since) == expected


def stack_of(system: System, load: Mapping[str, object]) -> Stack:
    cluster = Cluster(maker="devcluster", kubeconfig=Path("kubeconfig"), context="devcluster")
    changes = {key: str(value) for key, value in {**load, **system.settings}.items()}
    built = Built(registry="localhost", tag="1", servers={"redisImage": "localhost/redis:1"})
    return Stack(cluster, "here", {**settings_of("here", built), **changes})


@pytest.mark.parametrize("load", [pytest.param(FLOOD, id="flood"), pytest.param(LONG, id="long tasks")])
@pytest.mark.parametrize("system", [pytest.param(one, id=one.name) for one in SYSTEMS])
def test_keda_is_told_the_limits_that_the_stack_has(system: System, load: Mapping[str, object]) -> None:
    stack = stack_of(system, load)
    (pool,) = settings.load(configuration("local", stack.settings)).pools
    broker, scaled = objects(stack, system.spec or {})["items"]

    assert broker["spec"] == {
        "secretTargetRef": [{"parameter": "password", "name": "celery-broker", "key": "password"}]
    }
    assert scaled["spec"] == {
        "scaleTargetRef": {"name": "default-celery-worker"},
        "minReplicaCount": pool.min_replicas,
        "maxReplicaCount": pool.max_replicas,
        "triggers": [
            {
                "type": "redis",
                "metadata": {
                    "address": "redis.here.svc.cluster.local:6379",
                    "listName": "celery",
                    "listLength": str(pool.average_value),
                },
                "authenticationRef": {"name": "broker"},
            }
        ],
        **(system.spec or {}),
    }
