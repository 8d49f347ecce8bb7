"""Leads lost, rights missing, conflicts, an API server that is away: what the loop does about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scaler.cluster.objects import CeleryObject, Kind
from tests.scaler.fakes import FakeCluster, FakeLease
from tests.scaler.stage import TWO_A_MINUTE, Stage, failure


async def test_without_the_lease_nothing_is_written(stage: Stage) -> None:
    """R11: a scaler that does not lead looks on."""
    stage.lease.leading = False
    stage.cluster.add()
    stage.broker.lengths["sums"] = 900

    await stage.tick(20)

    assert stage.cluster.writes == []
    decision = stage.telemetry.reports["sums"].decision
    assert decision is not None
    assert decision.desired_replicas == 9


async def test_new_leader_goes_by_what_the_old_one_stored(stage: Stage) -> None:
    """R11: steps that the old leader made count against the new one's limits."""
    stage.cluster.add(behavior=TWO_A_MINUTE)
    stage.broker.lengths["sums"] = 900
    other = Stage(broker=stage.broker, cluster=stage.cluster, lease=FakeLease(leading=False), at=stage.at)
    await other.tick()
    await stage.tick()
    assert stage.cluster.replicas() == 4
    other.lease.leading = True

    await other.tick(20)

    assert stage.cluster.replicas() == 4  # 2 + 2 in this minute, whoever leads


async def test_lease_lost_between_two_writes_stops_the_second(stage: Stage) -> None:
    """R11: a process that was paused asks again before each write."""
    stage.cluster.add()
    stage.broker.lengths["sums"] = 900
    stage.cluster = _LeaseLost(
        celeries=stage.cluster.celeries, deployments=stage.cluster.deployments, lease=stage.lease
    )
    stage.restart()

    await stage.tick()

    assert stage.cluster.kinds() == ["status"]


@dataclass(slots=True)
class _LeaseLost(FakeCluster):
    """The lease is lost while a status is written."""

    lease: FakeLease = field(default_factory=FakeLease)

    async def write_status(self, celery: CeleryObject, status: Mapping[str, object]) -> None:
        await FakeCluster.write_status(self, celery, status)
        self.lease.leading = False


async def test_forbidden_scale_is_told_and_tried_twice_a_minute(stage: Stage) -> None:
    """R12: a missing right is named in the condition, without a storm of requests."""
    stage.cluster.add()
    await stage.settle()
    stage.cluster.refuse["scale"] = failure(
        Kind.FORBIDDEN, "the scaler may not patch deployments/scale in namespace shop"
    )
    stage.broker.lengths["sums"] = 400

    await stage.tick(30)

    assert stage.cluster.condition("Ready") == ("False", "Forbidden")
    message = stage.cluster.statuses["sums"]["conditions"][0]["message"]
    assert "patch deployments/scale" in message
    assert len(stage.telemetry.failures) == 2  # 60 s, one try each 30 s
    del stage.cluster.refuse["scale"]
    await stage.tick(20)
    assert stage.cluster.replicas() == 4
    assert stage.cluster.condition("Ready") == ("True", "Watching")


async def test_forbidden_scale_eats_no_step(stage: Stage) -> None:
    """A step that was refused is still due, in full."""
    stage.cluster.add(behavior=TWO_A_MINUTE)
    await stage.settle()
    stage.cluster.refuse["scale"] = failure(Kind.FORBIDDEN)
    stage.broker.lengths["sums"] = 900
    await stage.tick(10)
    del stage.cluster.refuse["scale"]

    await stage.tick(10)

    assert stage.cluster.replicas() == 4
    assert [event["change"] for event in stage.cluster.statuses["sums"]["scaleEvents"]] == [2]


async def test_forbidden_status_means_no_scaling(stage: Stage) -> None:
    """Law 5: a step that cannot be stored is not made."""
    stage.cluster.add()
    stage.cluster.refuse["status"] = failure(Kind.FORBIDDEN)
    stage.broker.lengths["sums"] = 900

    await stage.tick(30)

    assert stage.cluster.replicas() == 2
    assert len(stage.telemetry.failures) == 2  # 60 s, one try each 30 s


async def test_missing_right_to_watch_is_told_and_holds(stage: Stage) -> None:
    """R12: without the right to see HPAs nobody knows whether one acts."""
    stage.cluster.add()
    await stage.settle()
    stage.cluster.failure = failure(Kind.FORBIDDEN, "the scaler may not watch horizontalpodautoscalers")
    stage.broker.lengths["sums"] = 900

    await stage.tick(20)

    assert stage.cluster.replicas() == 2
    assert stage.cluster.condition("Ready") == ("False", "Forbidden")


async def test_stale_watch_holds_without_a_word_in_the_status(stage: Stage) -> None:
    """R13: while the API server cannot be read, what was read is not acted on."""
    stage.cluster.add()
    await stage.settle()
    stage.cluster.failure = failure(Kind.UNREACHABLE)
    stage.broker.lengths["sums"] = 900
    await stage.tick(3)
    held = stage.cluster.replicas()
    stage.cluster.failure = None

    await stage.tick()

    assert (held, stage.cluster.replicas()) == (2, 9)


async def test_conflict_ends_the_tick_for_that_object_only(stage: Stage) -> None:
    """R10: what changed meanwhile is looked at anew, two seconds later."""
    stage.cluster.add("sums", behavior=TWO_A_MINUTE)
    stage.cluster.add("mails")
    stage.broker.lengths |= {"sums": 900, "mails": 900}
    stage.cluster.refuse["scale/sums-celery-worker"] = failure(Kind.CONFLICT)
    await stage.tick()
    assert (stage.cluster.replicas("sums"), stage.cluster.replicas("mails")) == (2, 9)
    stage.cluster.refuse.clear()

    await stage.tick()

    assert stage.cluster.replicas("sums") == 4


async def test_retry_after_is_honoured(stage: Stage) -> None:
    """R13: after a 429 nothing is written for as long as the API server asks."""
    stage.cluster.add()
    stage.cluster.refuse["status"] = failure(Kind.SLOW_DOWN, seconds=10)
    await stage.tick()
    del stage.cluster.refuse["status"]

    await stage.tick(4)
    quiet = list(stage.cluster.writes)
    await stage.tick()

    assert quiet == []
    assert "status" in stage.cluster.kinds()


async def test_unreachable_api_is_tried_once_a_tick(stage: Stage) -> None:
    """R13: a hundred objects do not wait for a hundred timeouts."""
    for number in range(100):
        stage.cluster.add(f"p{number}")
    stage.cluster.refuse["status"] = failure(Kind.UNREACHABLE)

    await stage.tick()

    assert len(stage.telemetry.failures) <= 8  # as many as are under way at once


async def test_slow_api_does_not_make_a_tick_endless(stage: Stage) -> None:
    """R13: at half a second a write, a hundred objects are told over many ticks; the loop stays alive."""
    stage.cluster = _Slow(stage)
    stage.restart()
    for number in range(100):
        stage.cluster.add(f"p{number}")

    await stage.tick()
    first = len(stage.cluster.statuses)
    await stage.tick(60)

    assert 4 <= first <= 4 + 8  # 2 s, and what was under way
    assert len(stage.cluster.statuses) == 100


class _Slow(FakeCluster):
    """Each write of a status takes half a second."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    async def write_status(self, celery: CeleryObject, status: Mapping[str, object]) -> None:
        await super().write_status(celery, status)
        self.stage.at += 0.5


async def test_removed_object_is_forgotten(stage: Stage) -> None:
    """R16: nothing is written about it any more, and its figures go."""
    stage.cluster.add()
    stage.broker.lengths["sums"] = 900
    stage.cluster.refuse["scale"] = failure(Kind.CONFLICT)
    await stage.tick()
    del stage.cluster.celeries["sums"]
    stage.cluster.refuse.clear()
    stage.cluster.writes.clear()

    await stage.tick(5)

    assert stage.cluster.writes == []
    assert stage.telemetry.reports == {}


async def test_object_made_again_starts_from_nothing(stage: Stage) -> None:
    """The same name with another uid is another object."""
    stage.cluster.add(behavior=TWO_A_MINUTE)
    stage.broker.lengths["sums"] = 900
    await stage.tick(2)
    stage.cluster.statuses.clear()
    stage.cluster.celeries["sums"] = replace(stage.cluster.celeries["sums"], uid="another")

    await stage.tick()

    assert stage.cluster.replicas() == 6  # 4 + 2: the events of the other object are gone
    assert len(stage.cluster.statuses["sums"]["scaleEvents"]) == 1
