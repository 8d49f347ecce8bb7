"""The model of an HPA: the published formula, row by row, and the run that was measured on a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.contract import Policy, ScalingRules, policy_of
from scaler.pool.step_limits import ScaleEvent
from scaler.simulate.contender import PLAIN_SPEC, contender_of
from scaler.simulate.hpa import DEFAULT_BEHAVIOR, asked, limited, stabilized
from scaler.simulate.load import Load
from scaler.simulate.race import Run, race
from scaler.simulate.site import Workers
from tests.scaler.samples import behavior, percent, pods, policy, rules, spec

DEFAULT = policy_of(spec(minReplicas=1, maxReplicas=100, behavior=DEFAULT_BEHAVIOR))


@pytest.mark.parametrize(
    ("current", "length", "replicas"),
    [
        pytest.param(2, 400, 4, id="twice the target doubles them"),  # ceil(400 / 100)
        pytest.param(4, 200, 2, id="half the target halves them"),
        pytest.param(3, 301, 3, id="within a tenth nothing changes"),  # ratio 1.003
        pytest.param(10, 1100, 10, id="a tenth is still within"),
        pytest.param(10, 1101, 12, id="more than a tenth is not"),  # ceil(11.01)
        pytest.param(10, 899, 9, id="nor less than a tenth"),  # ceil(8.99)
        pytest.param(5, 0, 0, id="an empty list asks for nobody, whatever runs"),
    ],
)
def test_the_metric_asks_for_length_by_target(current: int, length: int, replicas: int) -> None:
    assert asked(current, length, 100, DEFAULT.behavior) == replicas


@pytest.mark.parametrize(
    ("current", "wanted", "advice", "replicas"),
    [
        pytest.param(4, 2, [(-301, 9), (-200, 3)], 3, id="down to the highest advice of 300 s"),
        pytest.param(4, 2, [(-300, 9)], 2, id="what is 300 s old has passed"),
        pytest.param(4, 2, [(-299, 9)], 4, id="what is younger holds them, and adds none"),
        pytest.param(4, 8, [(-1, 2)], 8, id="up at once"),
    ],
)
def test_stabilization(current: int, wanted: int, advice: list[tuple[float, int]], replicas: int) -> None:
    assert stabilized(current, wanted, advice, DEFAULT.behavior, 0) == replicas


def test_a_window_on_the_way_up_waits_for_the_lowest_advice() -> None:
    patient = behavior(up=ScalingRules(stabilization_seconds=60))

    assert stabilized(4, 9, [(-61, 1), (-30, 6)], patient, 0) == 6


LIMITED = policy(
    min_replicas=1, max_replicas=100, behavior=behavior(up=rules(pods(3, 60)), down=rules(percent(50, 60)))
)


@pytest.mark.parametrize(
    ("given", "current", "wanted", "events", "replicas"),
    [
        pytest.param(DEFAULT, 10, 99, (), 20, id="by default at most twice as many in 15 s"),
        pytest.param(DEFAULT, 2, 99, (), 6, id="or 4 more, which is further where there are few"),
        pytest.param(DEFAULT, 20, 99, (ScaleEvent(-14, 10),), 20, id="what was added counts for 15 s"),
        pytest.param(DEFAULT, 20, 99, (ScaleEvent(-15, 10),), 40, id="and then no more"),
        pytest.param(DEFAULT, 20, 0, (), 1, id="down by all at once, to the minimum"),
        pytest.param(DEFAULT, 90, 300, (), 100, id="never above the maximum"),
        pytest.param(LIMITED, 10, 99, (), 13, id="pods a minute"),
        pytest.param(LIMITED, 10, 2, (), 5, id="per cent a minute"),
        pytest.param(LIMITED, 10, 10, (), 10, id="nothing to limit"),
    ],
)
def test_step_limits_and_bounds(
    given: Policy, current: int, wanted: int, events: tuple[ScaleEvent, ...], replicas: int
) -> None:
    assert limited(given, current, wanted, events, 0) == replicas


# What was measured with KEDA 2.20.2 on Kubernetes 1.36.3, two processors, Celery 5.7.0: 30,000 tasks for 2 to
# 4 workers of 2 slots at 100 messages each. The service time is chosen so that both runs drain when they did,
# and the phase of the HPA's sync is the one that was drawn; all else is the model's.
SERVICE_SECONDS = 0.0265
MEASURED = [
    pytest.param("keda:phaseSeconds=7.2", 107.8, 289.0, 1575.0, id="defaults"),
    pytest.param(
        "keda-tuned:phaseSeconds=2.1,calmSeconds=0,scaleUp.policies=Pods/1000/15,scaleDown.policies=Pods/1000/15",
        100.2,
        6.6,
        424.0,
        id="tuned",
    ),
]


def simulated(contender: str, **pods: Any) -> Run:
    tasks = 30_000
    flood = Load(
        name="flood",
        arrivals=[18 * number / tasks for number in range(tasks)],
        services=[SERVICE_SECONDS] * tasks,
    )
    common = {"minReplicas": "2", "maxReplicas": "4", "averageValue": "100", "concurrency": "2"}
    return race(flood, [contender_of(contender, PLAIN_SPEC, common)], Workers(**pods), seed=1)[0]


@pytest.mark.parametrize(("contender", "empty", "back", "pod_seconds"), MEASURED)
def test_the_measured_runs(contender: str, empty: float, back: float, pod_seconds: float) -> None:
    """Back at the minimum within 3 s of what was measured, pod-seconds within 1 %."""
    run = simulated(contender, start_seconds=5.0, stop_seconds=0.0)

    drained = (run.to_drain or 0) + 18
    assert drained == pytest.approx(empty, rel=0.03)
    assert run.to_minimum == pytest.approx(back, abs=3)
    assert run.pod_seconds(drained + (run.to_minimum or 0)) == pytest.approx(pod_seconds, rel=0.01)
    assert [replicas for _, replicas in run.course.replicas] == [2, 4, 2]


def test_tasks_that_run_are_nobodys_demand() -> None:
    """Measured: of 24 tasks of 40 to 90 s on 1 to 8 workers, 6 were killed by scale-ins (grace 30 s)."""
    long = Load(name="long", arrivals=[0.0] * 24, services=[40 + 50 * number / 23 for number in range(24)])
    tuned = (
        "keda:maxReplicas=8,averageValue=1,calmSeconds=0,scaleUp.policies=Pods/1000/15,"
        "scaleDown.policies=Pods/1000/15,phaseSeconds=2"
    )
    theirs, ours = race(
        long,
        [contender_of(text, PLAIN_SPEC, {}) for text in (tuned, "ours:maxReplicas=8,averageValue=1")],
        Workers(start_seconds=5, grace_seconds=30),
        seed=1,
    )

    assert theirs.course.killed > 0
    assert theirs.to_drain is not None
    assert theirs.to_drain > 3600  # until the visibility timeout gives them back
    assert (ours.course.removed_busy, ours.course.killed) == (0, 0)


def test_keda_wakes_a_pool_with_its_poll_and_lets_it_sleep_after_its_cooldown() -> None:
    """One task in an empty hour: found by a poll every 30 s, and 300 s after the last such poll it sleeps."""
    one = Load(name="one", arrivals=[100.0], services=[5.0])
    keda = contender_of("keda:minReplicas=0", PLAIN_SPEC, {})

    run = race(one, [keda], Workers(start_seconds=5), seed=1)[0]

    woken, slept = run.course.replicas[1:]
    assert 100 < woken[0] <= 130
    assert (woken[1], slept[1]) == (1, 0)
    assert 300 <= slept[0] - woken[0] <= 330
    assert list(run.waits) == [pytest.approx(woken[0] + 5 - 100)]
