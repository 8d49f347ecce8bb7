"""The ledger's verdict, by hand-written ledgers: the other end-to-end tests rest on it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sample_app import ledger as writer
from tests.e2e.ledger import Entry, Verdict, entries_of, judge, of_batch, published_in, running_at

clock = itertools.count()


def start(task: str, attempt: str = "1", pod: str = "worker-1") -> Entry:
    return Entry(event="start", task=task, attempt=f"{task}/{attempt}", pod=pod, at=next(clock))


def finish(task: str, attempt: str = "1", pod: str = "worker-1") -> Entry:
    return Entry(event="finish", task=task, attempt=f"{task}/{attempt}", pod=pod, at=next(clock))


def verdict(
    finished: int = 1,
    lost: tuple[str, ...] = (),
    killed: tuple[str, ...] = (),
    repeated: tuple[str, ...] = (),
    unpublished: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(finished=finished, lost=lost, killed=killed, repeated=repeated, unpublished=unpublished)


@pytest.mark.parametrize(
    ("published", "entries", "expected"),
    [
        pytest.param(["a"], [start("a"), finish("a")], verdict(), id="started and finished"),
        pytest.param(["a"], [finish("a"), start("a")], verdict(), id="files come in any order"),
        pytest.param(["a"], [], verdict(finished=0, lost=("a",)), id="never started is lost"),
        pytest.param(
            ["a"],
            [start("a")],
            verdict(finished=0, lost=("a",), killed=("a",)),
            id="started and never finished is lost and killed",
        ),
        pytest.param(
            ["a"],
            [start("a"), start("a", "2", "worker-2"), finish("a", "2", "worker-2")],
            verdict(killed=("a",), repeated=("a",)),
            id="killed, and run again elsewhere, is killed and repeated and not lost",
        ),
        pytest.param(
            ["a"],
            [start("a"), finish("a"), start("a", "2", "worker-2"), finish("a", "2", "worker-2")],
            verdict(repeated=("a",)),
            id="finished twice is repeated",
        ),
        pytest.param(
            ["a"],
            [start("a"), start("a", "2"), start("a", "3"), finish("a", "3")],
            verdict(killed=("a", "a"), repeated=("a", "a")),
            id="each attempt counts",
        ),
        pytest.param(
            ["a"],
            [start("a"), finish("a"), start("b"), finish("b")],
            verdict(unpublished=("b",)),
            id="an entry of nobody's is not counted as finished",
        ),
    ],
)
def test_verdict(published: list[str], entries: list[Entry], expected: Verdict) -> None:
    assert judge(published, entries) == expected
    assert expected.clean == (expected == verdict())


def test_who_ran_what_at_a_moment() -> None:
    """From the start up to the finish; an attempt that never finished runs on."""
    entries = [start("a", pod="one"), start("b", pod="two"), finish("a", pod="one")]
    first, second, third = (entry.at for entry in entries)

    assert running_at(entries, first - 0.5) == {}
    assert running_at(reversed(entries), second) == {"one": {"a"}, "two": {"b"}}
    assert running_at(entries, third) == {"two": {"b"}}


def test_what_the_writer_writes_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one task are two attempts; batches are told apart by the ids' first part."""
    monkeypatch.setenv("LEDGER_DIR", str(tmp_path))
    for task in ("in-early-1", "out-early-2"):
        writer.published(task)
    first = writer.start("in-early-1", retries=0, redelivered=False)
    second = writer.start("in-early-1", retries=0, redelivered=True)
    writer.finish("in-early-1", second)
    (file,) = tmp_path.glob("*.jsonl")

    entries = entries_of(file.read_text().splitlines())

    assert first != second
    assert published_in(entries) == {"in-early-1", "out-early-2"}
    found = judge(published_in(entries, "in"), of_batch(entries, "in"))
    assert found == verdict(killed=("in-early-1",), repeated=("in-early-1",))
    assert str(found) == "1 finished, LOST 0, KILLED 1, DUP 1"
