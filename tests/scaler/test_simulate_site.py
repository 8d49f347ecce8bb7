"""The model of queue, workers and pods, and the laws that hold whatever acts on it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.contract import Policy
from scaler.simulate.contender import PLAIN_SPEC, TIMES, Contender, contender_of
from scaler.simulate.load import Load
from scaler.simulate.race import Run, race
from scaler.simulate.site import Site, Workers
from tests.scaler.courses import scaling_rules
from tests.scaler.samples import behavior, policy


def load(*tasks: tuple[float, float]) -> Load:
    """(arrival, service) of each."""
    return Load(
        name="made", arrivals=[arrival for arrival, _ in tasks], services=[service for _, service in tasks]
    )


def site(made: Load, replicas: int = 1, **changes: Any) -> Site:
    return Site(
        made,
        Workers(**{"start_seconds": 5.0, "stop_seconds": 2.0, "grace_seconds": 10.0, **changes}),
        replicas,
    )


def test_a_slot_takes_the_task_that_waits_longest() -> None:
    """Two slots: the third task waits for the first slot that is free."""
    made = site(load((0, 4), (0, 2), (1, 1)), slots=2)
    made.advance(10)

    assert (made.started, made.done) == ([0, 0, 2], [4, 2, 3])


def test_demand_is_what_waits_and_what_runs() -> None:
    made = site(load((0, 4), (0, 4), (1, 4), (20, 1)), slots=1)
    made.advance(2)

    assert (made.queued, made.unacked) == (2, 1)


def test_a_new_pod_works_when_it_has_started() -> None:
    made = site(load((0, 3), (0, 3), (0, 3)))
    made.advance(1)
    made.scale(2)
    made.advance(20)

    assert made.started == [0, 3, 6]  # the second worker comes at 1 + 5, as the first is free again
    assert made.course.replicas == [(0, 1), (1, 2)]
    assert made.course.workers == [(0, 1), (6, 2)]


def test_a_stopped_worker_finishes_what_it_has_and_takes_no_more_until_it_is_resumed() -> None:
    made = site(load((0, 3), (1, 3)))
    made.advance(2)
    made.stop(made.pods[0])
    made.advance(8)
    assert (made.done[0], made.queued) == (3, 1)
    made.resume(made.pods[0])
    made.advance(20)

    assert made.started == [0, 8]


def test_the_replicaset_takes_the_young_and_the_grace_period_kills() -> None:
    """Of three workers the two youngest go at 12: one is idle, one has a task until 41."""
    made = site(load((0, 30), (8, 4), (8, 30)), replicas=1, visibility_seconds=100.0)
    made.advance(1)
    made.scale(2)
    made.advance(6)
    made.scale(3)
    made.advance(12)
    made.scale(1)
    made.advance(70)

    assert (made.course.removed_busy, made.course.killed) == (1, 1)
    assert [pod.gone_at for pod in made.past] == [14, 24]  # idle: 12 + 2; killed: 12 + 10 + 2
    assert made.finished == 2
    made.advance(200)
    assert made.started[2] == 111  # taken at 11, back after 100
    assert made.done[2] == 141


def test_a_message_comes_back_only_to_a_worker_that_lives() -> None:
    made = site(load((0, 50)), visibility_seconds=60.0)
    made.advance(1)
    made.scale(0)
    made.advance(200)
    assert made.finished == 0
    made.scale(1)
    made.advance(300)

    assert made.started == [205]  # 200 + 5


def test_a_drained_pod_goes_before_a_young_one() -> None:
    made = site(load(), replicas=2)
    made.scale(3)
    made.advance(30)
    marked = made.pods[0]
    marked.cost = -1000
    made.scale(2)
    made.advance(60)

    assert made.past == [marked]


loads = st.lists(st.tuples(st.floats(0, 600), st.floats(0.01, 90)), min_size=1, max_size=60).map(
    lambda tasks: load(*sorted(tasks))
)


@st.composite
def pools(draw: st.DrawFn) -> Policy:
    low, high = sorted((draw(st.integers(0, 8)), draw(st.integers(1, 8))))
    return policy(
        min_replicas=low,
        max_replicas=max(1, high),
        average_value=draw(st.integers(1, 10)),
        concurrency=draw(st.integers(1, 4)),
        drain_seconds=draw(st.integers(1, 400)),
        behavior=behavior(up=draw(scaling_rules), down=draw(scaling_rules)),
    )


def run_of(rules: str, pool: Policy, made: Load, seed: int, workers: Workers) -> Run:
    contender = Contender(name=rules, rules=rules, policy=pool, times=TIMES[rules])
    return race(made, [contender], workers, seed=seed)[0]


def conserved(run: Run, made: Load) -> None:
    """Every task is done once or not at all, none before it came, and slots were there for all of it."""
    assert len(run.waits) + run.unfinished == len(made.arrivals)
    assert all(wait >= 0 for wait in run.waits)
    if not run.unfinished:
        slots = run.contender.policy.concurrency
        assert run.pod_seconds(run.seconds) * slots >= made.work - 1e-6


workers = st.builds(
    Workers,
    start_seconds=st.floats(0, 60),
    stop_seconds=st.floats(0, 5),
    grace_seconds=st.floats(0, 60),
    visibility_seconds=st.just(300.0),
)


@settings(max_examples=150)
@given(pools(), loads, workers, st.integers(0, 9))
def test_our_scale_in_takes_no_busy_worker(pool: Policy, made: Load, pods: Workers, seed: int) -> None:
    """Whatever the policy, the load and the pods are like."""
    run = run_of("ours", pool, made, seed, pods)

    assert (run.course.removed_busy, run.course.killed) == (0, 0)
    conserved(run, made)


@settings(max_examples=150)
@given(pools(), loads, workers, st.integers(0, 9), st.sampled_from(["hpa", "keda"]))
def test_what_others_kill_is_done_later_and_once(
    pool: Policy, made: Load, pods: Workers, seed: int, rules: str
) -> None:
    run = run_of(rules, pool, made, seed, pods)

    conserved(run, made)


@settings(max_examples=100)
@given(pools(), loads, st.integers(0, 9))
def test_replicas_stay_within_the_bounds(pool: Policy, made: Load, seed: int) -> None:
    run = run_of("ours", pool, made, seed, Workers())

    assert all(pool.min_replicas <= replicas <= pool.max_replicas for _, replicas in run.course.replicas)


def test_others_do_kill() -> None:
    """A law that nothing could break would prove nothing: tasks of 90 s, and a length that reads 0."""
    tuned = "hpa:maxReplicas=8,averageValue=1,scaleDown.stabilizationWindowSeconds=0"
    made = load(*((float(number), 90.0) for number in range(8)))

    run = race(made, [contender_of(tuned, PLAIN_SPEC, {})], Workers(), seed=1)[0]

    assert run.course.removed_busy >= run.course.killed > 0
    assert not run.unfinished


def test_our_pool_wakes_for_one_task_and_sleeps_after_its_calm() -> None:
    """At 0 until a poll of 2 s finds the task; 5 s to start; 60 s of calm and three polls of handshake."""
    made = load((100, 3))

    run = race(made, [contender_of("ours:minReplicas=0", PLAIN_SPEC, {})], Workers(start_seconds=5), seed=1)[
        0
    ]

    (_, first), (woken, one), (slept, none) = run.course.replicas
    assert (first, one, none) == (0, 1, 0)
    assert 100 < woken <= 102
    assert list(run.waits) == [pytest.approx(woken + 5 - 100)]
    assert 60 <= slept - (woken + 8) <= 68


def test_a_pool_that_never_shrinks_is_told_as_such() -> None:
    made = load(*((float(number), 20.0) for number in range(40)))
    stiff = contender_of("x:averageValue=1,scaleDown.selectPolicy=Disabled", PLAIN_SPEC, {})

    run = race(made, [stiff], Workers(), seed=1)[0]

    assert (run.unfinished, run.to_minimum) == (0, None)
    assert run.seconds < 400


@pytest.mark.parametrize("name", ["ours", "hpa", "keda"])
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    random = Random(7)
    made = load(*sorted((random.uniform(0, 300), random.uniform(1, 9)) for _ in range(400)))
    contenders = [contender_of(name, PLAIN_SPEC, {"averageValue": "5"})]

    first, second, other = (race(made, contenders, Workers(), seed=seed)[0] for seed in (1, 1, 2))

    assert (first.course, first.waits, first.lives) == (second.course, second.waits, second.lives)
    assert first.course.replicas != other.course.replicas
