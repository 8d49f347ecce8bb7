"""The format of recordings: both ways, and what is refused with line and field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.contract import Policy, policy_of
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import ForeignWrite, Memory, Observation, Reason, decide
from scaler.recording import (
    Beat,
    Decided,
    Header,
    NewPolicy,
    Seen,
    Tick,
    WrongRecording,
    read,
    spec_of,
    text_of,
)
from tests.scaler.courses import courses, policies
from tests.scaler.samples import AT, observation, policy

HEADER = text_of(Header(namespace="shop", poll_seconds=2, pools={"sums": spec_of("sums", policy())}))


def tick(at: float = AT, **changes: Any) -> Tick:
    return Tick(at=at, pool="sums", ready="Watching", observation=observation(7, at=at), **changes)


def test_a_tick_is_written_like_this() -> None:
    """The format is a promise: a line that reads otherwise needs another version."""
    line = tick(
        decided=Decided(desired_replicas=2, reason=Reason.AT_MINIMUM, message="why"),
        seen=Seen(
            replicas=4, running=3, beats={"sums-1": Beat(at=AT - 1, processed=90)}, leaving=("sums-1",)
        ),
    )

    assert text_of(line) == (
        '{"line":"tick","at":1704067200.0,"pool":"sums","ready":"Watching","observation":{"at":1704067200.0,'
        '"queued":{"low":7,"high":7},"unacked":{"low":0,"high":0},"active":{"low":0,"high":0},'
        '"next_due":null,"held_for_later":false,"spec_replicas":4,"other_scaler":null,"foreign_write":null},'
        '"decided":{"desired_replicas":2,"reason":"AtMinimum","message":"why","limited":false},'
        '"seen":{"replicas":4,"running":3,"capacity":null,'
        '"beats":{"sums-1":{"at":1704067199.0,"processed":90}},"not_due":{"low":0,"high":null},'
        '"leaving":["sums-1"]}}'
    )


def test_a_header_is_written_like_this() -> None:
    assert HEADER.startswith(
        '{"line":"header","format":"celery-fleet-recording","version":1,"namespace":"shop","poll_seconds":2,'
        '"pools":{"sums":{"common":{"appName":"sums"},"workerSpec":{"queues":"sums","concurrency":1},'
        '"scaleTargetRef":[{"kind":"worker","name":"sums-celery-worker","minReplicas":2,"maxReplicas":10,'
    )


@settings(max_examples=200)
@given(policies(), courses(), st.booleans())
def test_what_is_written_is_read_again(pool: Policy, course: list[Observation], foreign: bool) -> None:
    """Observation by observation and decision by decision; so a recording replays."""
    written, memory = [], Memory()
    for seen in course:
        if foreign:
            write = ForeignWrite(manager="kubectl", at=seen.at - 1)
            seen = Observation(
                at=seen.at,
                queued=seen.queued,
                unacked=seen.unacked,
                active=Count(1, None),
                next_due=seen.at + 9,
                spec_replicas=seen.spec_replicas,
                other_scaler="HorizontalPodAutoscaler/sums",
                foreign_write=write,
            )
        decision, memory = decide(pool, seen, memory)
        decided = Decided(
            desired_replicas=decision.desired_replicas,
            reason=decision.reason,
            message=decision.message,
            limited=decision.limited,
        )
        written.append(
            Tick(at=seen.at, pool="sums", ready="Watching", observation=seen, decided=decided, seen=Seen())
        )
    header = Header(namespace="shop", poll_seconds=1.5, pools={"sums": spec_of("sums", pool)})

    found = read([text_of(header), *map(text_of, written)])

    assert (found.namespace, found.poll_seconds, found.ticks) == ("shop", 1.5, {"sums": written})
    assert policy_of(found.specs["sums"]) == pool


def test_an_object_that_was_changed_is_read_as_it_was_at_last() -> None:
    larger = spec_of("sums", policy(max_replicas=30))
    found = read([HEADER, text_of(tick()), text_of(NewPolicy(at=AT + 1, pool="sums", spec=larger))])

    assert policy_of(found.specs["sums"]).max_replicas == 30


def test_fields_of_a_later_writer_are_left_alone() -> None:
    found = read([HEADER, text_of(tick()).replace('"ready"', '"weather":"fine","ready"')])

    assert found.ticks == {"sums": [tick()]}


TICK = text_of(tick())
LATER = text_of(tick(AT + 2))


@pytest.mark.parametrize("length", [1, len(LATER) // 2, len(LATER) - 1])
@pytest.mark.parametrize("as_bytes", [False, True], ids=["text", "bytes"])
def test_a_last_line_that_was_cut_is_left_out(length: int, as_bytes: bool) -> None:
    """The recorder was stopped by Ctrl-C, or by a reader that had seen enough."""
    lines = [f"{HEADER}\n", f"{TICK}\n", LATER[:length]]

    found = read([line.encode() for line in lines] if as_bytes else lines)

    assert found.ticks == {"sums": [tick()]}


def test_a_last_line_that_is_whole_counts_without_its_end() -> None:
    assert read([f"{HEADER}\n", f"{TICK}\n", LATER]).ticks == {"sums": [tick(), tick(AT + 2)]}


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        pytest.param([], "line 1: no JSON: Input data was truncated", id="nothing"),
        pytest.param(
            ["celery"],
            "line 1: no JSON: JSON is malformed: invalid character (byte 0)",
            id="something else",
        ),
        pytest.param(
            [b"\x89PNG\r\n"],
            "line 1: no JSON: JSON is malformed: invalid character (byte 0)",
            id="no text at all",
        ),
        pytest.param(
            ['{"hello": 1}'],
            "line 1, format: not celery-fleet-recording: this is no recording of `python -m scaler record`",
            id="other JSON",
        ),
        pytest.param([TICK], "line 1, format: not celery-fleet-recording: this", id="no header"),
        pytest.param(
            [HEADER.replace('"version":1', '"version":2')],
            "line 1, version: 2 is not 1, which this scaler reads",
            id="another version",
        ),
        pytest.param(
            [HEADER.replace('"poll_seconds":2', '"poll_seconds":0')],
            "line 1, poll_seconds: Expected `float` > 0.0",
            id="a poll of no time",
        ),
        pytest.param(
            [HEADER.replace('"minReplicas":2', '"minReplicas":11')],
            "line 1, pools.sums: minReplicas must not be greater than maxReplicas (11 > 10)",
            id="a policy that is none",
        ),
        pytest.param([HEADER, HEADER], "line 2, line: a second header", id="two recordings in one file"),
        pytest.param(
            [HEADER, TICK[:-9], LATER], "line 2: no JSON: Input data was truncated", id="a line that was cut"
        ),
        pytest.param(
            [HEADER, TICK, f"{LATER[:-9]}\n"],
            "line 3: no JSON: JSON is malformed",
            id="cut, and ended",
        ),
        pytest.param(
            [HEADER, TICK, LATER.replace("sums", "mail")],
            "line 3, pool: no line before says what mail is",
            id="a last line that is whole and wrong",
        ),
        pytest.param([HEADER, "", TICK], "line 2: no JSON: Input data was truncated", id="an empty line"),
        pytest.param([HEADER, "[]"], "line 2, line: Expected `object`, got `array`", id="no object"),
        pytest.param(
            [HEADER, '{"line":"tock"}'], "line 2, line: Invalid value 'tock'", id="a line of no kind"
        ),
        pytest.param(
            [HEADER, TICK.replace('"queued"', '"waiting"')],
            "line 2, observation: Object missing required field `queued`",
            id="a field that is missing",
        ),
        pytest.param(
            [HEADER, TICK.replace('"low":7', '"low":"7"')],
            "line 2, observation.queued.low: Expected `int`, got `str`",
            id="a text for a number",
        ),
        pytest.param(
            [HEADER, TICK.replace('"high":7', '"high":6')],
            "line 2, observation.queued: from 7 to 6 is no range",
            id="a range the wrong way round",
        ),
        pytest.param(
            [HEADER, TICK.replace('"low":7', '"low":-7')],
            "line 2, observation.queued: from -7 to 7 is no range",
            id="fewer than nothing",
        ),
        pytest.param(
            [HEADER, TICK.replace("sums", "mail")],
            "line 2, pool: no line before says what mail is",
            id="a pool that nobody introduced",
        ),
        pytest.param(
            [HEADER, LATER, TICK],
            f"line 3, at: {AT} is not after the pool's tick before",
            id="time that runs back",
        ),
    ],
)
def test_what_is_no_recording_is_refused(lines: list[str | bytes], refusal: str) -> None:
    with pytest.raises(WrongRecording) as raised:
        read(lines)

    assert str(raised.value).startswith(refusal)
    assert "\n" not in str(raised.value)


def test_the_unknown_is_null_and_not_zero() -> None:
    text = text_of(tick(seen=Seen(not_due=UNKNOWN)))

    assert '"running":null' in text
    assert '"not_due":{"low":0,"high":null}' in text
