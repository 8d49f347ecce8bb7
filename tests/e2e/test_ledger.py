"""The ledger's verdict, by hand-written ledgers: the other end-to-end tests rest on it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.ledger import Verdict, judge


def start(task: str, pod: str = "worker-1") -> str:
    return json.dumps({"event": "start", "id": task, "pod": pod, "attempt": 0})


def finish(task: str, pod: str = "worker-1") -> str:
    return json.dumps({"event": "finish", "id": task, "pod": pod})


def verdict(
    finished: int = 1,
    lost: tuple[str, ...] = (),
    killed: tuple[str, ...] = (),
    repeated: tuple[str, ...] = (),
    unpublished: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(finished=finished, lost=lost, killed=killed, repeated=repeated, unpublished=unpublished)


@pytest.mark.parametrize(
    ("published", "lines", "expected"),
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
            [start("a"), start("a", "worker-2"), finish("a", "worker-2")],
            verdict(killed=("a",)),
            id="killed, and run again elsewhere, is killed and not lost",
        ),
        pytest.param(
            ["a"],
            [start("a"), finish("a"), start("a", "worker-2"), finish("a", "worker-2")],
            verdict(repeated=("a",)),
            id="finished twice is repeated",
        ),
        pytest.param(
            ["a"],
            [start("a"), finish("a"), start("b"), finish("b")],
            verdict(unpublished=("b",)),
            id="an entry of nobody's is not counted as finished",
        ),
    ],
)
def test_verdict(published: list[str], lines: list[str], expected: Verdict) -> None:
    assert judge(published, lines) == expected
