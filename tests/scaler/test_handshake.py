"""From a decision to the replicas and the drain of one tick."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.cluster.objects import VICTIM_COST, Pod
from scaler.pool.crew import Rest
from scaler.pool.decision import Decision, Reason
from scaler.pool.drain import DrainReason, Leaving
from scaler.pool.handshake import Scene, Step, costs_of, step_of
from scaler.pool.let_go import LetGo
from tests.scaler.samples import AT, policy
from tests.scaler.team import answers, beat, crew, deployment, heard, held, pod


def decided(desired: int, reason: Reason = Reason.DEMAND_FELL) -> Decision:
    return Decision(desired_replicas=desired, reason=reason, message="")


def step(desired: int, *pods: Pod, reason: Reason = Reason.DEMAND_FELL, **facts: Any) -> Step:
    """All pods answer that they are idle, unless told otherwise."""
    replicas = facts.pop("replicas", len(pods))
    leaving = tuple(Leaving(name, AT - 10) for name in facts.pop("leaving", ()))
    names = {victim.pod for victim in leaving}
    said = facts.pop("answers", answers(stopped=names, **{each.name: held() for each in pods}))
    beats = facts.pop("heard", heard(AT - 7200, **{each.name: beat() for each in pods}))
    rolling_out = facts.pop("rolling_out", False)
    plain: dict[str, Any] = {
        "at": AT,
        "policy": policy(),
        "deployment": deployment(replicas, rolling_out=rolling_out),
        "pods": pods,
        "crew": crew(*pods, replicas=facts.pop("counted", None), heard=beats, answers=said, leaving=names),
        "leaving": leaving,
        "again_at": 0.0,
        "answerless": False,
        "rests": {},
        "quiet_since": None,
    }
    return step_of(decided(desired, reason), Scene(**plain | facts))


def marked(name: str) -> Pod:
    return pod(name, deletion_cost=VICTIM_COST)


def test_more_is_at_once_and_takes_back_who_leaves() -> None:
    found = step(5, pod("a"), pod("b"), leaving=["b"])

    assert (found.replicas, found.drain.resume, found.drain.leaving) == (5, frozenset("b"), ())


def test_fewer_begins_with_a_drain_and_changes_no_replicas() -> None:
    found = step(1, pod("a"), pod("b", created_at=AT))

    assert (found.replicas, found.drain.stop, found.drain.mark) == (2, frozenset("b"), frozenset())


def test_replicas_fall_by_the_marked_ones_only() -> None:
    """Nobody is marked in the same breath: the ReplicaSet could take that one, and another be let go."""
    found = step(1, pod("a"), marked("b"), pod("c"), leaving=["b", "c"])

    assert (found.replicas, found.drain.mark) == (2, frozenset())


def test_nobody_is_marked_until_those_let_go_are_gone() -> None:
    found = step(1, pod("a"), marked("b"), pod("c"), replicas=2, leaving=["b", "c"], let_go=frozenset("b"))

    assert (found.replicas, found.drain.mark, found.drain.stop) == (2, frozenset(), frozenset("bc"))


def test_a_fall_that_was_refused_lets_nobody_go_and_brings_nobody_back() -> None:
    let_go, pods = LetGo(), [pod("a"), marked("b")]
    let_go.look(pods, deployment(1), AT)
    let_go.lower(AT)
    let_go.look([*pods, marked("c")], deployment(1), AT + 2)

    let_go.lower(AT + 2)
    assert let_go.pods == {"b", "c"}
    let_go.refused()
    assert let_go.pods == {"b"}


def test_replicas_do_not_fall_while_a_mark_is_new() -> None:
    found = step(1, pod("a"), marked("b"), pod("c"), leaving=["b", "c"], marks_are_seen=False)

    assert (found.replicas, found.drain.mark) == (3, frozenset())


def test_replicas_without_a_worker_stay_while_a_mark_is_taken_off() -> None:
    """The ReplicaSet may not have made them yet when it sees the fall, and take the marked one."""
    back = step(3, pod("a"), marked("b"), replicas=4, leaving=["b"])
    then = step(3, pod("a"), pod("b"), replicas=4, leaving=["b"])

    assert (back.replicas, back.drain.resume) == (4, frozenset("b"))
    assert (then.replicas, then.drain.resume) == (3, frozenset("b"))


@pytest.mark.parametrize(
    ("pods", "replicas", "expected"),
    [
        pytest.param([pod("a")], 3, 1, id="pods that were never made"),
        pytest.param(
            [pod("a"), pod("b", assigned=False, running_since=None, ready=False)],
            2,
            1,
            id="one without a node",
        ),
        pytest.param(
            [pod(name, running_since=None, ready=False) for name in "ab"], 2, 1, id="all, where none runs yet"
        ),
        pytest.param(
            [pod("a"), *(pod(name, assigned=False, running_since=None, ready=False) for name in "bc")],
            2,
            1,
            id="one without a node, where another is let go already",
        ),
        pytest.param(
            [pod("a"), pod("b", running_since=None, ready=False)],
            2,
            2,
            id="not one that starts beside one that runs",
        ),
    ],
)
def test_replicas_without_a_worker_fall_at_once(pods: list[Pod], replicas: int, expected: int) -> None:
    """The ReplicaSet takes them first, and no worker has to be asked."""
    assert step(1, *pods, replicas=replicas).replicas == expected


def test_pod_that_scale_has_let_go_does_not_count_a_second_time() -> None:
    """`/scale` says 2, the ReplicaSet has not yet acted, and the marked one is still there."""
    found = step(2, pod("a"), pod("b"), marked("c"), replicas=2, leaving=["c"])

    assert (found.replicas, found.drain.stop) == (2, frozenset("c"))


def test_unknown_demand_keeps_who_leaves_waiting() -> None:
    found = step(2, pod("a"), marked("b"), leaving=["b"], reason=Reason.DEMAND_UNKNOWN)

    assert (found.replicas, found.drain.remove, found.drain.stop) == (2, 0, frozenset("b"))
    assert found.drain.reason is DrainReason.DEMAND_UNKNOWN


def test_pods_that_no_watch_shows_keep_everybody() -> None:
    """The ReplicaSet could take one of them."""
    found = step(1, pod("a"), marked("b"), replicas=3, counted=3, leaving=["b"])

    assert (found.replicas, found.drain.reason) == (3, DrainReason.WAITING_FOR_PODS)


def test_roll_out_takes_everybody_back() -> None:
    found = step(1, pod("a"), marked("b"), leaving=["b"], rolling_out=True)

    assert (found.replicas, found.drain.resume) == (2, frozenset("b"))


def test_after_a_deadline_there_is_a_rest() -> None:
    found = step(1, pod("a"), pod("b"), again_at=AT + 30)

    assert (found.drain.stop, found.drain.reason) == (frozenset(), DrainReason.DEADLINE)
    assert "begins in 30 s" in found.drain.message


@pytest.mark.parametrize(
    ("beats", "quiet_since", "leaves"),
    [
        pytest.param(5, AT - 60, {"b"}, id="idle by several heartbeats since the queue is empty"),
        pytest.param(1, AT - 60, set(), id="idle by one only"),
        pytest.param(5, None, set(), id="while there is something in the queue"),
        pytest.param(5, AT, set(), id="a heartbeat from before the queue was empty"),
    ],
)
def test_where_nobody_answers_heartbeats_decide(
    beats: int, quiet_since: float | None, leaves: set[str]
) -> None:
    rests = {"b": Rest(processed=1, last=AT - 0.1, since=AT - 50, beats=beats)}
    found = step(
        1, pod("a"), pod("b"), answers=answers(), answerless=True, rests=rests, quiet_since=quiet_since
    )

    assert found.drain.mark == leaves
    assert "no worker answers remote control" in found.drain.message


def test_nobody_heard_nobody_goes() -> None:
    found = step(1, pod("a"), pod("b"), answers=answers(), heard=heard())

    assert (found.replicas, found.drain.reason) == (2, DrainReason.WORKERS_SILENT)


@pytest.mark.parametrize(
    ("silent", "leaves"),
    [
        pytest.param(["a"], {"d"}, id="one of four says nothing: one of the others leaves"),
        pytest.param(["a", "b"], set(), id="two say nothing: the two that speak stay"),
        pytest.param(["d"], {"c"}, id="the youngest says nothing"),
    ],
)
def test_workers_that_say_nothing_are_never_all_that_is_left(silent: list[str], leaves: set[str]) -> None:
    pods = [pod(name, created_at=AT - 3600 + number) for number, name in enumerate("abcd")]
    speaking = [each.name for each in pods if each.name not in silent]
    found = step(
        2,
        *pods,
        answers=answers(stopped=(), **{name: held() for name in speaking}),
        heard=heard(AT - 7200, **{name: beat() for name in speaking}),
    )

    assert found.replicas == 4
    assert found.drain.stop == leaves
    assert f"{len(silent)} of 4 workers say nothing" in found.drain.message


def test_one_that_scale_has_let_go_may_be_silent() -> None:
    """It got SIGTERM, and the watch does not show that yet: the next one may be chosen meanwhile."""
    pods = [pod("a"), pod("b", created_at=AT), marked("c")]
    found = step(
        1,
        *pods,
        replicas=2,
        leaving=["c"],
        answers=answers(a=held(), b=held()),
        heard=heard(AT - 7200, a=beat(), b=beat()),
    )

    assert {victim.pod for victim in found.drain.leaving} == {"b", "c"}


def test_marks_are_written_on_the_drained_and_taken_from_those_that_stay() -> None:
    pods = [pod("a"), marked("b"), pod("c")]
    drain = step(1, pod("a"), pod("b"), pod("c"), leaving=["c", "b"]).drain
    back = step(3, *pods, leaving=["c", "b"]).drain

    done = [("b", VICTIM_COST), ("c", VICTIM_COST)]
    assert [(each.name, cost) for each, cost in costs_of(drain, pods)] == done
    assert [(each.name, cost) for each, cost in costs_of(back, pods)] == [("b", None)]


def _victim_order(each: Pod) -> tuple[bool, bool, bool, int]:
    """As the ReplicaSet controller has it, up to the deletion cost."""
    return (each.assigned, each.running_since is not None, each.ready, each.deletion_cost)


members = st.fixed_dictionaries(
    {
        "assigned": st.booleans(),
        "ready": st.booleans(),
        "running": st.booleans(),
        "terminating": st.booleans(),
        "marked": st.booleans(),
        "leaving": st.booleans(),
        "stopped": st.booleans(),
        "tasks": st.none() | st.integers(0, 3),
    }
)


@settings(max_examples=600, deadline=None)
@given(st.lists(members, max_size=6), st.integers(0, 6), st.integers(0, 6), st.sampled_from(list(Reason)))
def test_whatever_is_seen_no_worker_with_a_task_is_taken(
    seen: list[dict[str, Any]], desired: int, spec: int, reason: Reason
) -> None:
    """The ReplicaSet's own order over the pods, against what each of them holds."""
    pods = [
        pod(
            f"p{number}",
            assigned=each["assigned"] or each["running"],
            ready=each["ready"] and each["running"],
            running_since=AT - 100 if each["running"] else None,
            terminating=each["terminating"],
            deletion_cost=VICTIM_COST if each["marked"] else 0,
        )
        for number, each in enumerate(seen)
    ]
    living = [each for each in pods if not each.terminating]
    facts = dict(zip([each.name for each in pods], seen, strict=True))
    said = answers(
        stopped=[name for name, fact in facts.items() if fact["stopped"]],
        **{
            name: held(*map(str, range(fact["tasks"])))
            for name, fact in facts.items()
            if fact["tasks"] is not None
        },
    )
    found = step(
        desired,
        *pods,
        reason=reason,
        replicas=spec,
        counted=len(living),
        answers=said,
        leaving=[name for name, fact in facts.items() if fact["leaving"]],
    )

    assert found.replicas >= min(desired, spec)
    if found.replicas >= spec:
        return
    by_victim = sorted(living, key=_victim_order)
    before = {each.name for each in by_victim[: max(0, len(living) - spec)]}
    for victim in by_victim[: max(0, len(living) - found.replicas)]:
        if victim.running_since is None or victim.name in before:
            continue
        fact = facts[victim.name]
        assert (fact["marked"], fact["stopped"], fact["tasks"]) == (True, True, 0), victim
