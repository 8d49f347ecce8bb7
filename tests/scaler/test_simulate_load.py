"""Loads: made by kind and seed, and taken from recordings of runs whose truth is known."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest

from scaler.pool.count import UNKNOWN, Count
from scaler.recording import Beat, Recording, Seen, Tick
from scaler.simulate.contender import contender_of
from scaler.simulate.load import KINDS, Load, made
from scaler.simulate.race import race
from scaler.simulate.recorded import recorded
from scaler.simulate.site import Workers
from scaler.simulate.words import Impossible
from tests.scaler.recordings import EPOCH, SPEC, record_of, recording_of, tick


@pytest.mark.parametrize("kind", KINDS)
def test_a_load_is_the_seeds(kind: str) -> None:
    """In order, within its time, and the same for the same seed only."""
    first, again, other = made(kind, 1), made(kind, 1), made(kind, 2)

    assert (first.arrivals, first.services) == (again.arrivals, again.services)
    assert (first.arrivals, first.services) != (other.arrivals, other.services)
    assert first.arrivals == sorted(first.arrivals)
    assert 0 <= first.arrivals[0] <= first.arrivals[-1] <= 3600
    assert len(first.services) == len(first.arrivals)
    assert min(first.services) > 0


@pytest.mark.parametrize(
    ("text", "tasks", "mean"),
    [
        pytest.param("flood:tasks=500,service=2", 500, 2, id="a flood has its tasks"),
        pytest.param("dead-zero", 1, 1, id="one task in an empty hour"),
        pytest.param("poisson:rate=5", 18_000, 1, id="5 a second for an hour"),
        pytest.param("sawtooth:rate=10", 18_000, 1, id="a sawtooth has half of its height"),
        pytest.param("square:rate=10", 18_000, 1, id="a square is on for half of the time"),
        pytest.param("diurnal:rate=10", 18_000, 1, id="a day has half of its noon"),
        pytest.param(
            "bimodal:rate=5,service=1,long=41,share=0.05", 18_000, 3, id="a twentieth takes long"
        ),  # 0.95 * 1 + 0.05 * 41
    ],
)
def test_a_load_is_as_large_as_asked_for(text: str, tasks: int, mean: float) -> None:
    load = made(text, 1)

    assert len(load.arrivals) == pytest.approx(tasks, rel=0.03)
    assert statistics.mean(load.services) == pytest.approx(mean, rel=0.5 if tasks == 1 else 0.06)


def test_a_sawtooth_climbs_and_drops() -> None:
    arrivals = made("sawtooth:rate=20,period=100", 1).arrivals
    early, late = (sum(low <= at % 100 < low + 50 for at in arrivals) for low in (0, 50))

    assert late == pytest.approx(3 * early, rel=0.05)  # the halves of a triangle


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("tsunami", "there is no load tsunami; there are flood, sawtooth, square, poisson, diurnal"),
        ("flood:rate=3", "flood: there is no rate; there are at, over, seconds, service, spread, tasks"),
        ("flood:tasks=many", "flood: tasks must be a number from 0 on, not many"),
        ("poisson:rate=inf", "poisson: rate must be a number from 0 on, not inf"),
        ("poisson:rate=1,rate=2", "poisson:rate=1,rate=2: rate is given twice"),
        ("poisson:rate", "poisson:rate: rate is not key=value"),
        ("poisson:rate=0", "poisson:rate=0: no task comes"),
        ("poisson:rate=10000", "poisson: more than 2,000,000 tasks"),
        ("square:period=0", "square: period must be above 0"),
        ("bimodal:share=2", "bimodal: share must be at most 1"),
        (":rate=1", "':rate=1' has no name"),
    ],
)
def test_an_impossible_load_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(Impossible) as raised:
        made(text, 1)

    assert str(raised.value).startswith(refusal)


TRUTHS = [
    pytest.param("flood:tasks=900,at=20,over=5,service=0.5", id="a flood"),
    pytest.param("poisson:rate=3,seconds=300,service=0.8", id="a steady stream"),
    pytest.param("square:rate=6,seconds=300,period=100,service=0.6", id="waves"),
    pytest.param("flood:tasks=3,at=20,over=90,service=4", id="three tasks, far apart"),
]


def later(load: Load) -> Load:
    """What is over before the first tick cannot be seen."""
    return replace(load, arrivals=[at + 10 for at in load.arrivals])


@pytest.mark.parametrize("late", [True, False], ids=["acks late", "acks early"])
@pytest.mark.parametrize("text", TRUTHS)
def test_a_recording_gives_the_load_back(text: str, late: bool) -> None:
    """Every task is found, within a poll and a heartbeat of when it came; the service time within 10 %."""
    truth = later(made(text, 3))

    found = recorded(record_of(truth, late=late), None)

    arrivals = [at + 0.7 for at in found.load.arrivals]  # the first tick is at 0.7
    assert len(arrivals) == len(truth.arrivals)
    assert max(abs(a - b) for a, b in zip(arrivals, truth.arrivals, strict=True)) <= 4
    assert found.load.services[0] == pytest.approx(statistics.mean(truth.services), rel=0.1)


def test_a_recording_of_rabbitmq_gives_the_load_back() -> None:
    """It tells how many messages workers hold at most, and not what of that is due."""
    truth = later(made("square:rate=6,seconds=300,period=100,service=0.6", 3))
    told = [
        tick(
            each.at - EPOCH,
            each.observation.queued,
            Count(0, each.observation.unacked.high),
            replicas=each.observation.spec_replicas,
            seen=each.seen,
        )
        for each in record_of(truth, late=True).ticks["sums"]
        if each.observation is not None
    ]

    found = recorded(recording_of(told), None)

    assert len(found.load.arrivals) == len(truth.arrivals)


def test_what_is_replayed_takes_as_long_as_what_was_recorded() -> None:
    """The recorded times themselves, and those of the replay with the estimated service and start times."""
    found = recorded(record_of(made("flood:tasks=900,at=20,over=5,service=0.5", 3), late=True), None)
    ours = contender_of("ours", found.spec, {})

    replay = race(found.load, [ours], Workers(start_seconds=found.start_seconds or 0), seed=1)[0]

    assert found.start_seconds == pytest.approx(6, abs=2)
    assert replay.to_drain == pytest.approx(found.to_drain, rel=0.05)
    assert replay.to_maximum == pytest.approx(found.to_maximum, abs=2)
    assert replay.to_minimum == pytest.approx(found.to_minimum, abs=4)


def test_workers_that_come_late_and_restart_are_counted_from_0() -> None:
    """The first had taken 100 before; it restarts; the second comes with the flood."""
    beats = [
        {"a": 100},
        {"a": 104},
        {"a": 3},  # restarted
        {"a": 5, "b": 2},
        {"a": 5, "b": 7},
    ]
    queued = [0, 8, 5, 1, 0]
    ticks = [
        tick(
            10.0 * number,
            length,
            seen=Seen(
                running=0,
                capacity=2,
                beats={pod: Beat(at=EPOCH + 10 * number, processed=taken) for pod, taken in heard.items()},
            ),
        )
        for number, (heard, length) in enumerate(zip(beats, queued, strict=True))
    ]

    found = recorded(
        Recording(namespace="n", poll_seconds=10, specs={"sums": SPEC}, ticks={"sums": ticks}), None
    )

    # came: 0; 4 taken + 8 waiting; 7 + 5; 11 + 1; 16 + 0
    assert [sum(low < at <= low + 10 for at in found.load.arrivals) for low in (0, 10, 20, 30)] == [
        12,
        0,
        0,
        4,
    ]


NO_TICKS = "sums: no two ticks tell what was queued, held and taken: do its workers send heartbeats?"


def silent(number: int) -> Tick:
    return tick(2.0 * number, 5, seen=Seen())


def idle(number: int) -> Tick:
    beat = Beat(at=EPOCH + 2 * number, processed=7)
    return tick(2.0 * number, 0, seen=Seen(running=0, capacity=1, beats={"a": beat}))


def stuck(number: int) -> Tick:
    beat = Beat(at=EPOCH + 2 * number, processed=7)
    return tick(2.0 * number, 5 * number, seen=Seen(running=0, capacity=1, beats={"a": beat}))


def blind(number: int) -> Tick:
    beat = Beat(at=EPOCH + 2 * number, processed=7)
    return tick(2.0 * number, UNKNOWN, UNKNOWN, seen=Seen(beats={"a": beat}))


@pytest.mark.parametrize(
    ("ticks", "pool", "refusal"),
    [
        (
            silent,
            None,
            "sums: no two ticks tell what was queued, held and taken: do its workers send heartbeats?",
        ),
        (
            blind,
            None,
            "sums: no two ticks tell what was queued, held and taken: do its workers send heartbeats?",
        ),
        (idle, None, "sums: no task came while it was recorded"),
        (stuck, None, "sums: no task ended while it was recorded"),
        (idle, "mail", "the recording: there is no pool mail in it; there are sums"),
    ],
)
def test_a_recording_that_tells_of_no_load_is_refused(
    ticks: Callable[[int], Tick], pool: str | None, refusal: str
) -> None:
    recording = recording_of([ticks(number) for number in range(9)])

    with pytest.raises(Impossible) as raised:
        recorded(recording, pool)

    assert str(raised.value) == refusal


def test_of_several_pools_one_must_be_named() -> None:
    recording = Recording(
        namespace="n", poll_seconds=2, specs={"a": SPEC, "b": SPEC}, ticks={"a": [], "b": []}
    )

    with pytest.raises(Impossible) as raised:
        recorded(recording, None)

    assert str(raised.value) == "the recording: say which with --pool; there are a, b"
