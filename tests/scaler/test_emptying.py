"""When a fleet counts as empty: rows over one reading, and sequences of readings over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler import emptying, loop
from scaler.cluster import lease
from scaler.contract import CRD_NAME, SCALER_NAME, Env
from scaler.emptying import (
    REFUSE,
    Empty,
    Left,
    Memory,
    Rules,
    Scaler,
    Sight,
    Unknown,
    Verdict,
    Waiting,
    WorkLeft,
    drain_rules,
    judge,
    left_now,
    left_of,
    quiet_seconds,
    scaler_of,
)
from scaler.pool.decision import Reason

START = 1_000_000.0
ZERO = Left(queued=0, unacked=0, active=0, not_due=0)
BUSY = Left(queued=40, unacked=3, active=2, not_due=0)
QUIET = 12
"""2 x 2 s of poll, 5 s of a figure's age, 3 s of slack."""


def sight(left: Left | None = ZERO, **more: Left | None) -> Sight:
    return Sight(pools={"web": left, **more}, scaler=Scaler(runs=True))


def run(
    readings: Mapping[int, Sight], rules: Rules, *, until: int, beating: bool = True
) -> tuple[int, Verdict]:
    """Reads every second; each reading stays until the next. Returns when the wait ended, and how."""
    memory = Memory(started=START)
    now = readings[0]
    verdict: Verdict = Waiting("")
    for second in range(until + 1):
        now = readings.get(second, now)
        scaler = now.scaler
        if scaler is not None and beating and not scaler.pulse:
            scaler = replace(scaler, pulse=f"a {second // 5}")
        verdict, memory = judge(replace(now, scaler=scaler), memory, rules, START + second)
        if not isinstance(verdict, Waiting):
            return second, verdict
    return until, verdict


@pytest.mark.parametrize("rules", [REFUSE, drain_rules(600)])
def test_zeros_that_hold_are_empty(rules: Rules) -> None:
    """The first renewal is seen after 5 s; from there the zeros have to hold."""
    assert run({0: sight()}, rules, until=60) == (5 + QUIET, Empty())


def test_a_drain_waits_until_the_work_is_done() -> None:
    readings = {0: sight(BUSY), 50: sight(replace(ZERO, active=1)), 90: sight()}

    assert run(readings, drain_rules(600), until=600) == (90 + QUIET, Empty())


def test_work_that_comes_back_starts_the_quiet_time_anew() -> None:
    """A producer outside the stack that still publishes for a while."""
    readings = {0: sight(), 10: sight(BUSY), 12: sight(), 20: sight(BUSY), 21: sight()}

    assert run(readings, drain_rules(600), until=600) == (21 + QUIET, Empty())


def test_a_drain_ends_at_its_deadline_with_counts_of_every_pool() -> None:
    fleet = sight(BUSY, mail=replace(ZERO, queued=7), idle=ZERO)

    ended, verdict = run({0: fleet}, drain_rules(100), until=600)

    assert ended == 100
    assert verdict == WorkLeft(
        ("pool mail: 7 queued, 0 unacked, 0 active", "pool web: 40 queued, 3 unacked, 2 active")
    )


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(replace(ZERO, queued=1), id="queued"),
        pytest.param(replace(ZERO, unacked=1), id="unacked"),
        pytest.param(replace(ZERO, active=1), id="active"),
    ],
)
def test_refuse_ends_with_the_first_task_that_it_sees(left: Left) -> None:
    ended, verdict = run({0: sight(), 9: sight(left)}, REFUSE, until=60)

    assert ended == 9
    assert isinstance(verdict, WorkLeft)


@pytest.mark.parametrize(
    ("figure", "left"),
    [
        ("queued", replace(ZERO, queued=None)),
        ("unacked", replace(ZERO, unacked=None)),
        ("active", replace(ZERO, active=None)),
    ],
)
def test_an_unknown_figure_is_never_zero(figure: str, left: Left) -> None:
    part = sight(left)
    line = f"pool web: how many tasks are {figure} is not known"

    assert run({0: part}, REFUSE, until=600) == (30, Unknown((line,)))
    assert run({0: part}, drain_rules(200), until=600) == (200, Unknown((line,)))


def test_a_worker_that_boots_in_the_middle_of_a_drain_is_waited_for() -> None:
    readings = {0: sight(replace(ZERO, active=None)), 180: sight()}

    assert run(readings, drain_rules(600), until=600) == (180 + QUIET, Empty())


def test_a_broker_that_is_gone_ends_both_with_the_scalers_reason() -> None:
    blind = sight(Left(doubt="BrokerUnreachable: connection refused"))
    line = "pool web: BrokerUnreachable: connection refused"

    assert run({0: blind}, REFUSE, until=600) == (30, Unknown((line,)))
    assert run({0: blind}, drain_rules(600), until=600) == (120, Unknown((line,)))


def test_a_broker_that_starts_anew_is_waited_for() -> None:
    readings = {0: sight(BUSY), 20: sight(replace(BUSY, doubt="BrokerNotReady: LOADING")), 130: sight()}

    assert run(readings, drain_rules(600), until=600) == (130 + QUIET, Empty())


def test_work_that_was_known_before_the_broker_went_still_counts() -> None:
    doubtful = sight(replace(BUSY, doubt="BrokerUnreachable: no"))

    assert run({0: doubtful}, REFUSE, until=60) == (
        0,
        WorkLeft(
            ("pool web: 40 queued, 3 unacked, 2 active; as last known: BrokerUnreachable: no",),
        ),
    )


def test_a_scaler_that_does_not_renew_its_lease_is_not_believed() -> None:
    silent = sight()

    ended, verdict = run({0: silent}, REFUSE, until=60, beating=False)

    assert ended == 30
    assert verdict == Unknown((f"the scaler has not renewed its Lease {SCALER_NAME} for 30 s",))


def test_zeros_need_a_renewal_after_they_were_first_seen() -> None:
    """A scaler that fell silent leaves its status as it was, with whatever it last said."""
    still = Sight(pools={"web": ZERO}, scaler=Scaler(runs=True, pulse="the same"))

    ended, verdict = run({0: sight(BUSY), 6: still}, drain_rules(600), until=300)

    assert (ended, type(verdict)) == (6 + 1 + emptying.BEAT_SECONDS + emptying.DRAIN_BLIND_SECONDS, Unknown)


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        pytest.param(
            Sight(pools={"web": ZERO}, scaler=None),
            f"Deployment {SCALER_NAME} is gone, so nobody counts",
            id="scaler",
        ),
        pytest.param(
            Sight(pools={"web": None}, scaler=Scaler(runs=True), defined=False),
            f"the definition {CRD_NAME} is gone, and every Celery object with it",
            id="definition",
        ),
        pytest.param(
            sight(None), "pool web: its Celery object is gone, so nobody counts its tasks", id="object"
        ),
    ],
)
@pytest.mark.parametrize("rules", [REFUSE, drain_rules(600)])
def test_what_is_gone_is_said_at_once(seen: Sight, line: str, rules: Rules) -> None:
    assert run({0: seen}, rules, until=60) == (0, Unknown((line,)))


def test_a_scaler_without_a_pod_is_waited_for_and_then_said() -> None:
    stopped = Sight(pools={"web": ZERO}, scaler=Scaler(runs=False))
    line = f"no pod of Deployment {SCALER_NAME} is ready"

    assert run({0: stopped}, REFUSE, until=60) == (30, Unknown((line,)))
    assert run({0: stopped, 40: sight()}, drain_rules(600), until=60)[1] == Empty()


def test_tasks_that_are_due_after_the_deadline_end_a_drain_early_and_are_named() -> None:
    later = Left(queued=1, unacked=2, active=0, not_due=3, next_due=START + 7200)

    ended, verdict = run({0: sight(later)}, drain_rules(600), until=600)

    assert ended == 5  # the scaler's pulse
    assert verdict == WorkLeft(
        ("pool web: 1 queued, 2 unacked, 0 active; 3 of them not due yet, the next at 1970-01-12T15:46:40Z",)
    )


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(Left(queued=1, unacked=2, active=0, not_due=3, next_due=START + 60), id="due in time"),
        pytest.param(Left(queued=2, unacked=2, active=0, not_due=3, next_due=START + 7200), id="one is due"),
        pytest.param(Left(queued=1, unacked=2, active=1, not_due=3, next_due=START + 7200), id="one runs"),
        pytest.param(Left(queued=1, unacked=2, active=0, not_due=3), id="nobody knows when"),
    ],
)
def test_a_drain_that_can_still_do_something_waits(left: Left) -> None:
    assert run({0: sight(left)}, drain_rules(600), until=600)[0] == 600


PAUSED = "paused: 0 replicas are kept"
STUCK = replace(ZERO, queued=5, held=PAUSED, paused=True)


def test_tasks_of_a_pool_that_is_paused_at_none_end_a_drain_early_and_say_so() -> None:
    """Nobody would take them until the deadline, an hour by default."""
    ended, verdict = run({0: sight(STUCK)}, drain_rules(600), until=600)

    assert ended == 5
    assert verdict == WorkLeft((f"pool web: 5 queued, 0 unacked, 0 active; {PAUSED}, so nobody takes them",))


def test_a_pool_that_is_paused_at_none_does_not_end_the_drain_of_one_that_works() -> None:
    readings = {0: sight(STUCK, mail=BUSY), 50: sight(STUCK, mail=ZERO)}

    assert run(readings, drain_rules(600), until=600)[0] == 50


@pytest.mark.parametrize(
    ("replicas", "scaling", "held", "paused"),
    [
        (0, {"status": "False", "reason": "Paused", "message": PAUSED}, PAUSED, True),
        (0, {"status": "False", "reason": "Shadow", "message": "in shadow"}, "in shadow", False),
        (0, {"status": "True", "reason": "Scaling", "message": "it does"}, "", False),
        (2, {"status": "False", "reason": "Paused", "message": "paused: 2 are kept"}, "", False),
        (None, {"status": "False", "reason": "Paused", "message": PAUSED}, "", False),
    ],
)
def test_a_pool_without_workers_is_read_with_the_reason_why_none_starts(
    replicas: int | None, scaling: dict[str, str], held: str, paused: bool
) -> None:
    left = left_of(1, {"replicas": replicas, "conditions": [{"type": "ScalingActive", **scaling}]})

    assert (left.held, left.paused) == (held, paused)


def test_paused_is_the_scalers_own_word() -> None:
    assert Reason.PAUSED.value == emptying.PAUSED


def test_messages_of_workers_that_are_gone_are_named() -> None:
    assert replace(ZERO, unacked=2, stranded=2).sentence == (
        "0 queued, 2 unacked, 0 active; 2 held by workers that are gone, "
        "until the broker's visibility timeout"
    )


def test_a_fleet_without_pools_is_empty() -> None:
    assert run({0: Sight(pools={}, scaler=Scaler(runs=True))}, REFUSE, until=60)[1] == Empty()


def test_the_quiet_time_outlasts_what_the_scaler_may_be_late() -> None:
    assert emptying.FIGURES_SECONDS >= loop.FIGURES_SECONDS
    assert emptying.FIGURES_PER_SECOND <= loop.FIGURES_PER_SECOND
    assert emptying.BEAT_SECONDS > lease.DURATION_SECONDS
    slow = Sight(pools=dict.fromkeys(map(str, range(400)), ZERO), scaler=Scaler(runs=True, poll_seconds=60))
    assert quiet_seconds(slow) == 2 * 60 + 400 / 20 + 3


FIGURE = st.none() | st.integers(0, 3)
LEFTS = st.builds(
    Left, queued=FIGURE, unacked=FIGURE, active=FIGURE, not_due=FIGURE, doubt=st.sampled_from(["", "why"])
)
SCALERS = st.none() | st.builds(Scaler, runs=st.booleans(), pulse=st.sampled_from(["", "a 1", "a 2", "a 3"]))
SIGHTS = st.builds(
    Sight,
    pools=st.dictionaries(st.sampled_from("ab"), st.none() | LEFTS),
    scaler=SCALERS,
    defined=st.booleans(),
)


@given(st.lists(SIGHTS, min_size=1, max_size=30), st.sampled_from([REFUSE, drain_rules(20)]))
def test_empty_is_never_said_of_work_or_of_what_is_unknown(readings: list[Sight], rules: Rules) -> None:
    memory = Memory(started=START)
    for second, seen in enumerate(readings):
        verdict, memory = judge(seen, memory, rules, START + second)
        if isinstance(verdict, Empty):
            window = readings[second - QUIET : second + 1]
            assert second >= QUIET
            assert all(left is not None and left.none for each in window for left in each.pools.values())
            assert all(each.scaler is not None and each.scaler.runs for each in window)
            return
        if not isinstance(verdict, Waiting):
            return


@given(st.lists(SIGHTS, min_size=1, max_size=30))
def test_a_refusal_names_work_whenever_it_was_seen(readings: list[Sight]) -> None:
    memory = Memory(started=START)
    for second, seen in enumerate(readings):
        verdict, memory = judge(seen, memory, REFUSE, START + second)
        if any(left is not None and left.some for left in seen.pools.values()):
            assert isinstance(verdict, WorkLeft | Unknown)


READY = {"type": "Ready", "status": "True", "reason": "Watching", "message": "well", "observedGeneration": 3}


@pytest.mark.parametrize(
    ("status", "left"),
    [
        (
            {"queued": 1, "unacked": 2, "active": 0, "notDue": 1, "stranded": 1, "conditions": [READY]},
            Left(queued=1, unacked=2, active=0, not_due=1, stranded=1),
        ),
        (
            {"nextDueTime": "1970-01-01T00:01:00.000000Z", "conditions": [READY]},
            Left(next_due=60.0),
        ),
        ({"queued": -1, "unacked": True, "active": "0", "conditions": [READY]}, Left()),
        (None, Left(doubt="the scaler has not reported on generation 3 of it")),
        ({"conditions": "no"}, Left(doubt="the scaler has not reported on generation 3 of it")),
        (
            {"queued": 0, "conditions": [{**READY, "observedGeneration": 2}]},
            Left(queued=0, doubt="the scaler has not reported on generation 3 of it"),
        ),
        (
            {"conditions": [{**READY, "status": "False", "reason": "BrokerRefused", "message": "no"}]},
            Left(doubt="BrokerRefused: no"),
        ),
    ],
)
def test_a_status_is_read_as_what_it_vouches_for(status: object, left: Left) -> None:
    assert left_of(3, status) == left


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (sight(), ""),
        (sight(BUSY), "with tasks left: 40 queued, 3 unacked, 2 active"),
        (
            sight(Left(queued=0)),
            (
                "while its scaler does not know how many tasks are left: how many tasks are unacked and "
                "active is not known"
            ),
        ),
        (
            sight(replace(ZERO, doubt="BrokerRefused: no")),
            "while its scaler does not know how many tasks are left: BrokerRefused: no",
        ),
        (sight(None), "and its Celery object is gone, so nothing says how many tasks are left"),
        (
            Sight(pools={"web": ZERO}, scaler=None),
            f"with nobody to say how many tasks are left: Deployment {SCALER_NAME} is gone, so nobody counts",
        ),
        (
            Sight(pools={"web": ZERO}, scaler=Scaler(runs=False)),
            f"with nobody to say how many tasks are left: no pod of Deployment {SCALER_NAME} is ready",
        ),
    ],
)
def test_one_reading_says_what_is_left_of_a_pool(seen: Sight, words: str) -> None:
    assert left_now(seen, "web") == words


@pytest.mark.parametrize(
    ("value", "seconds"), [("10", 10.0), ("0.5", 0.5), ("soon", 2.0), (None, 2.0)], ids=str
)
def test_the_scaler_says_how_often_it_looks(value: str | None, seconds: float) -> None:
    variable: dict[str, Any] = {"name": str(Env.POLL_SECONDS), "value": value}
    pod = {"containers": [{"name": "scaler", "env": [{"name": "OTHER"}, variable]}]}
    deployment = {"spec": {"template": {"spec": pod}}, "status": {"availableReplicas": 1}}
    held = {"spec": {"holderIdentity": "a", "renewTime": "now"}}

    assert scaler_of(deployment, held) == Scaler(runs=True, pulse="a now", poll_seconds=seconds)


@pytest.mark.parametrize("lease", [None, {}, {"spec": {"holderIdentity": "", "renewTime": "now"}}], ids=str)
def test_a_lease_that_nobody_holds_has_no_pulse(lease: Mapping[str, Any] | None) -> None:
    assert scaler_of({}, lease) == Scaler(runs=False)
