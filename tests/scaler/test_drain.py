"""The handshake of a scale-in: who is chosen, who is waited for, and when the replicas may fall."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.pool.count import UNKNOWN, Count
from scaler.pool.drain import DrainReason, Ended, Leaving, Outcome, Plan, Worker, ended, plan

NOW = 1000.0
IDLE = Count.exactly(0)


def worker(pod: str, tasks: int | Count = 0, **facts: object) -> Worker:
    held = tasks if isinstance(tasks, Count) else Count.exactly(tasks)
    plain = Worker(pod=pod, created_at=0.0, replica_set="rs", tasks=held)
    return replace(plain, **facts)  # type: ignore[arg-type]


def at_now(*workers: Worker, leaving: tuple[Leaving, ...] = (), excess: int = 1) -> Plan:
    return plan(workers, leaving, excess=excess, at=NOW, deadline_seconds=300)


def test_the_least_busy_worker_is_asked_to_stop_consuming() -> None:
    found = at_now(worker("a", 2), worker("b", 1), worker("c", 3))

    assert found == Plan(
        leaving=(Leaving("b", NOW),),
        stop=frozenset({"b"}),
        reason=DrainReason.WAITING_FOR_TASKS,
        message="waiting for the tasks of b (1)",
    )


def test_of_equally_busy_workers_the_youngest_leaves() -> None:
    found = at_now(worker("old", created_at=1), worker("young", created_at=9), worker("mid", created_at=5))

    assert [victim.pod for victim in found.leaving] == ["young"]


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param(worker("x", UNKNOWN), id="one that does not answer"),
        pytest.param(worker("x", settled=False), id="one that is not ready yet"),
        pytest.param(worker("x", terminating=True), id="one that is terminating"),
    ],
)
def test_a_worker_of_which_something_is_unknown_is_never_chosen(unfit: Worker) -> None:
    found = at_now(unfit, worker("y", 5))

    assert [victim.pod for victim in found.leaving] == ["y"]


def test_a_victim_that_is_done_is_marked_and_not_yet_removed() -> None:
    """The ReplicaSet controller reads pods from a cache: the mark has to be seen before the scale."""
    leaving = (Leaving("a", NOW - 10),)

    found = at_now(worker("a", stopped=True), worker("b", 1), leaving=leaving)

    assert found == Plan(
        leaving=leaving,
        stop=frozenset({"a"}),
        mark=frozenset({"a"}),
        reason=DrainReason.REMOVING,
        message="a finished, to be marked for removal",
    )


def test_a_marked_victim_is_removed() -> None:
    leaving = (Leaving("a", NOW - 10),)

    found = at_now(worker("a", stopped=True, marked=True), worker("b", 1), leaving=leaving)

    assert (found.remove, found.mark, found.reason) == (1, frozenset(), DrainReason.REMOVING)


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param(worker("a", 1, stopped=True), id="it still runs a task"),
        pytest.param(worker("a", Count(0, 1), stopped=True), id="it may still run a task"),
        pytest.param(worker("a", UNKNOWN, stopped=True), id="it stopped answering"),
        pytest.param(worker("a", 0, stopped=False), id="it has not said that it stopped consuming"),
        pytest.param(worker("a", 1, stopped=True, marked=True), id="it took a task after it was marked"),
    ],
)
def test_a_victim_is_waited_for_while(victim: Worker) -> None:
    found = at_now(victim, worker("b", 3), leaving=(Leaving("a", NOW - 10),))

    assert (found.remove, found.mark, found.stop) == (0, frozenset(), frozenset({"a"}))


def test_drained_workers_go_while_others_still_finish() -> None:
    leaving = (Leaving("a", NOW - 10), Leaving("b", NOW - 10))

    found = at_now(
        worker("a", stopped=True, marked=True),
        worker("b", 1, stopped=True),
        worker("c", 4),
        leaving=leaving,
        excess=2,
    )

    assert (found.remove, found.stop) == (1, frozenset({"a", "b"}))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(worker("b", UNKNOWN, settled=False), id="a booting pod"),
        pytest.param(worker("b", 1, marked=True), id="a busy pod that carries an old mark"),
    ],
)
def test_nothing_is_removed_while_the_replica_set_would_take_another_pod_first(other: Worker) -> None:
    leaving = (Leaving("a", NOW - 10),)

    found = at_now(worker("a", stopped=True, marked=True), other, leaving=leaving)

    assert (found.remove, found.reason) == (0, DrainReason.WAITING_FOR_PODS)


def test_load_that_returns_takes_every_victim_back() -> None:
    leaving = (Leaving("a", NOW - 10), Leaving("b", NOW - 10))

    found = at_now(worker("a", 1), worker("b", stopped=True), worker("c", 9), leaving=leaving, excess=0)

    assert (found.leaving, found.resume, found.stop) == ((), frozenset({"a", "b"}), frozenset())


def test_load_that_returns_in_part_takes_the_busiest_back() -> None:
    leaving = (Leaving("a", NOW - 10), Leaving("b", NOW - 10))

    found = at_now(worker("a", 3), worker("b", 1), worker("c", 9), leaving=leaving, excess=1)

    assert ([victim.pod for victim in found.leaving], found.resume) == (["b"], frozenset({"a"}))


def test_a_mark_that_no_drain_knows_of_is_taken_off() -> None:
    """A scaler that died between two writes may leave one."""
    found = at_now(worker("a", marked=True), worker("b", 1), excess=0)

    assert found.resume == frozenset({"a"})


def test_a_roll_out_undoes_the_drain() -> None:
    leaving = (Leaving("a", NOW - 10),)

    found = at_now(worker("a", 1), worker("b", replica_set="new"), leaving=leaving)

    assert (found.leaving, found.resume, found.reason) == ((), frozenset({"a"}), DrainReason.ROLLING_OUT)


def test_a_deadline_cancels_the_drain_and_kills_nothing() -> None:
    leaving = (Leaving("a", NOW - 301),)

    found = at_now(worker("a", 1, stopped=True), worker("b"), leaving=leaving)

    assert found == Plan(
        leaving=(),
        resume=frozenset({"a"}),
        reason=DrainReason.DEADLINE,
        message="a still had tasks after 300 s",
    )


def test_a_victim_that_is_gone_is_forgotten() -> None:
    found = at_now(worker("b", 1), leaving=(Leaving("a", NOW - 10),), excess=0)

    assert found == Plan(leaving=())


workers_of_any_kind = st.lists(
    st.builds(
        Worker,
        pod=st.sampled_from("abcdefgh"),
        created_at=st.floats(0, 100),
        replica_set=st.sampled_from(["rs", "rs", "rs", "new"]),
        tasks=st.sampled_from([IDLE, IDLE, Count.exactly(2), Count(0, 1), UNKNOWN]),
        stopped=st.booleans(),
        settled=st.booleans(),
        terminating=st.booleans(),
        marked=st.booleans(),
    ),
    unique_by=lambda each: each.pod,
    max_size=8,
)


@given(
    workers=workers_of_any_kind,
    chosen=st.sets(st.sampled_from("abcdefgh")),
    excess=st.integers(-2, 9),
)
def test_whatever_happens_the_replica_set_takes_only_drained_pods(
    workers: list[Worker], chosen: set[str], excess: int
) -> None:
    """Plays the ReplicaSet's own order (kubernetes, pkg/controller, ActivePodsWithRanks) on the plan."""
    found = plan(
        workers, tuple(Leaving(pod, NOW - 1) for pod in chosen), excess=excess, at=NOW, deadline_seconds=300
    )

    active = [each for each in workers if not each.terminating]
    order = sorted(active, key=lambda each: (each.settled, not each.marked))
    taken = order[: found.remove]
    assert found.remove <= max(0, excess)
    assert all(each.stopped and each.tasks == IDLE for each in taken)
    assert {each.pod for each in taken} <= {victim.pod for victim in found.leaving}
    assert not found.stop & found.resume


@pytest.mark.parametrize(
    ("planned", "living", "outcome"),
    [
        pytest.param(Plan(), {"b"}, Outcome.REMOVED, id="a pod that is gone or going was removed"),
        pytest.param(
            Plan(resume=frozenset("a"), reason=DrainReason.TAKEN_BACK),
            {"a", "b"},
            Outcome.TAKEN_BACK,
            id="load came back",
        ),
        pytest.param(
            Plan(resume=frozenset("a"), reason=DrainReason.ROLLING_OUT),
            {"a", "b"},
            Outcome.TAKEN_BACK,
            id="a roll-out began",
        ),
        pytest.param(
            Plan(resume=frozenset("a"), reason=DrainReason.DEADLINE),
            {"a", "b"},
            Outcome.DEADLINE,
            id="it took too long",
        ),
        pytest.param(
            Plan(resume=frozenset("a"), reason=DrainReason.DEADLINE),
            {"b"},
            Outcome.REMOVED,
            id="it went in the very tick of its deadline",
        ),
    ],
)
def test_a_drain_ends_once_with_its_outcome(planned: Plan, living: set[str], outcome: Outcome) -> None:
    """b leaves on; c was taken back before and is no news."""
    leaving = (Leaving("a", NOW - 30), Leaving("b", NOW - 5), Leaving("c", NOW - 99))
    found = ended(leaving, planned, returning=frozenset("c"), living=living | {"c"}, at=NOW)

    assert found == (Ended("a", 30.0, outcome),)
