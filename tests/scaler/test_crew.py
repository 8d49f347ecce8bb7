"""What Kubernetes, heartbeats and answers say of a pool's workers together, and how sure it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.pool.count import UNKNOWN, Count
from scaler.pool.crew import BOOT_SECONDS, FRESH_SECONDS, Rest
from tests.scaler.samples import AT
from tests.scaler.team import answers, beat, crew, heard, held, pod

QUIET = AT - 10
RESTS = {"a": Rest(processed=0, last=AT, since=AT - 8, beats=3)}


@pytest.mark.parametrize(
    ("facts", "active"),
    [
        pytest.param({}, Count(0, 2), id="a worker that says nothing may run as many as it has slots"),
        pytest.param({"heard": heard(a=beat(1))}, Count(0, 2), id="more may have begun since its heartbeat"),
        pytest.param(
            {"heard": heard(a=beat(0)), "quiet_since": QUIET}, Count(0, 2), id="also where it says none"
        ),
        pytest.param(
            {"heard": heard(a=beat(0)), "rests": RESTS, "quiet_since": QUIET},
            Count(0, 0),
            id="unless it has said so several times since the broker has nothing for it",
        ),
        pytest.param({"heard": heard(a=beat(0)), "rests": RESTS}, Count(0, 2), id="the broker has something"),
        pytest.param(
            {"heard": heard(a=beat(0)), "rests": RESTS, "quiet_since": AT},
            Count(0, 2),
            id="the broker had something until after its heartbeat",
        ),
        pytest.param(
            {"heard": heard(a=beat(0, at=AT - FRESH_SECONDS - 1)), "quiet_since": AT - 600},
            Count(0, 2),
            id="an old heartbeat is none",
        ),
        pytest.param(
            {"heard": heard(a=beat(0, offline=True)), "rests": RESTS, "quiet_since": QUIET},
            Count(0, 2),
            id="one that goes may still be running tasks",
        ),
        pytest.param({"heard": heard(a=beat(7))}, Count(0, 7), id="a heartbeat may show more than the slots"),
        pytest.param(
            {"answers": answers(a=held("t", "u", acknowledged=["t"]))}, Count(1, 1), id="an answer settles it"
        ),
        pytest.param(
            {"answers": answers(a=held("t", acknowledged=["t"])), "held": {"t"}},
            Count(0, 0),
            id="a task that the broker still had counts once",
        ),
        pytest.param({"replicas": 2}, Count(0, 4), id="a pod that no watch shows may run tasks"),
    ],
)
def test_running_tasks_that_no_broker_knows(facts: dict[str, Any], active: Count) -> None:
    assert crew(pod("a"), **facts).active == active


def test_word_of_an_earlier_container_is_none() -> None:
    """The tasks that it speaks of ended with it."""
    found = crew(pod("a", running_since=AT - 1), heard=heard(a=beat(0, at=AT - 2)), quiet_since=QUIET)

    assert (found.active, found.running, found.heard) == (Count(0, 2), None, frozenset())


def test_capacity_is_of_those_that_still_take_tasks() -> None:
    """Not of those that leave, that terminate or that do not run yet; unknown where one says nothing."""
    pods = [pod("a"), pod("b"), pod("c", terminating=True), pod("d", running_since=None, ready=False)]
    beats = heard(a=beat(1), b=beat(1), c=beat(1))

    assert crew(*pods, replicas=3, heard=beats).capacity == 4
    assert crew(*pods, replicas=3, heard=beats, leaving={"b"}).capacity == 2
    assert crew(*pods, replicas=3, heard=heard(b=beat())).capacity is None
    assert crew(*pods, replicas=3, heard=beats).running == 3


def test_worker_that_starts_is_not_asked() -> None:
    """It cannot answer yet, and each question to it costs the tick a second."""
    young, old = pod("a", running_since=AT - 1), pod("b", running_since=AT - BOOT_SECONDS - 1)

    assert crew(young, old).to_ask == {"b"}
    assert crew(young, old, heard=heard(a=beat())).to_ask == {"a", "b"}


def test_worker_without_an_answer_has_unknown_tasks() -> None:
    """A heartbeat of no tasks is no word about those that it has prefetched."""
    silent, spoken = crew(pod("a"), pod("b"), heard=heard(a=beat(0)), answers=answers(b=held("t"))).workers

    assert (silent.tasks, spoken.tasks) == (UNKNOWN, Count(1, 1))


@pytest.mark.parametrize(
    ("word", "beats"),
    [
        pytest.param(beat(0, at=AT + 2, processed=5), 2, id="idle again"),
        pytest.param(beat(0, at=AT, processed=5), 1, id="the same word twice"),
        pytest.param(beat(0, at=AT + 2, processed=6), 1, id="it took one in between"),
        pytest.param(beat(1, at=AT + 2, processed=6), None, id="it runs one"),
        pytest.param(beat(0, at=AT + 2, processed=5, offline=True), None, id="it goes"),
    ],
)
def test_rest_is_a_row_of_words_without_work(word: Any, beats: int | None) -> None:
    first = Rest.after(None, beat(0, at=AT, processed=5))
    found = Rest.after(first, word)

    assert (found and found.beats) == beats


words = st.none() | st.builds(
    beat,
    st.integers(0, 5),
    at=st.floats(AT - 100, AT),
    processed=st.integers(0, 9),
    offline=st.booleans(),
)
tasks = st.none() | st.builds(
    lambda running, many: held(*running, acknowledged=running[:many]),
    st.lists(st.sampled_from("tuvw"), unique=True),
    st.integers(0, 4),
)


@given(st.lists(st.tuples(words, tasks, st.booleans()), max_size=5), st.none() | st.floats(AT - 200, AT))
def test_law_1_zero_running_is_said_only_of_workers_that_said_it(
    members: list[tuple[Any, Any, bool]], quiet_since: float | None
) -> None:
    """Whoever neither answered nor sent a fresh heartbeat widens the bounds by all its slots."""
    pods = [pod(f"p{number}", terminating=going) for number, (_, _, going) in enumerate(members)]
    beats = {f"p{number}": word for number, (word, _, _) in enumerate(members) if word}
    said = {f"p{number}": task for number, (_, task, _) in enumerate(members) if task}
    found = crew(
        *pods,
        replicas=sum(not each.terminating for each in pods),
        heard=heard(**beats),
        answers=answers(**said),
        quiet_since=quiet_since,
    )

    unheard = [
        number
        for number, (word, task, _) in enumerate(members)
        if task is None and (word is None or AT - word.at > FRESH_SECONDS)
    ]
    assert found.active.high is not None
    assert found.active.low <= found.active.high
    assert found.active.high >= 2 * len(unheard)
    assert (found.running is None) == bool(unheard)
