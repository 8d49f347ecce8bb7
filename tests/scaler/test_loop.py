"""The loop over a broker and a cluster that a test steers: what is written when, and what is not."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from scaler.backlog import BrokerFailure
from scaler.contract import Ready
from scaler.decision import UNKNOWN
from scaler.loop import Loop
from scaler.objects import CeleryObject, ClusterFailure, Kind, ReplicasOwner
from tests.scaler.fakes import FakeBroker, FakeCluster, FakeLease, FakeTelemetry, Killed
from tests.scaler.samples import AT

AT_ONCE = {"scaleDown": {"stabilizationWindowSeconds": 0}}
TWO_A_MINUTE = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
    "scaleDown": {"stabilizationWindowSeconds": 0},
}


@dataclass(slots=True)
class Stage:
    """A loop with its surroundings, and a clock that goes by the poll."""

    broker: FakeBroker = field(default_factory=FakeBroker)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    lease: FakeLease = field(default_factory=FakeLease)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    at: float = AT
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new scaler that knows what the cluster knows."""
        self.telemetry = FakeTelemetry()
        self.loop = Loop(
            broker=self.broker,
            cluster=self.cluster,
            lease=self.lease,
            telemetry=self.telemetry,
            poll_seconds=2,
            clock=lambda: self.at,
        )

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.at += 2
            await self.loop.tick(self.at)
            assert self.telemetry.crashes == []

    async def settle(self) -> None:
        """Tick until nothing is written for longer than any calm."""
        for _ in range(100):
            before = len(self.cluster.writes)
            await self.tick(40)
            if len(self.cluster.writes) == before:
                self.cluster.writes.clear()
                return
        raise AssertionError(f"still writing: {self.cluster.writes[-5:]}")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def failure(kind: Kind, sentence: str = "no", seconds: float = 0) -> ClusterFailure:
    return ClusterFailure(kind, sentence, seconds)


async def test_flood_is_reported_before_it_is_acted_on(stage: Stage) -> None:
    """Law 5: status, then `/scale`, then the event."""
    stage.cluster.add()
    await stage.settle()
    stage.broker.lengths["sums"] = 400

    await stage.tick()

    assert stage.cluster.kinds() == ["status", "scale", "event"]
    status, scale, event = (what for _, _, what in stage.cluster.writes)
    assert (status["desiredReplicas"], scale) == (4, 4)
    assert event == (
        "DemandRose",
        "Scale",
        False,
        "2 to 4 replicas: demand 400 (400 queued + 0 unacked) at 100 a worker asks for 4 of now 2",
    )


async def test_idle_writes_nothing(stage: Stage) -> None:
    """Once an object's status says all there is to say, an hour of ticks writes nothing."""
    stage.cluster.add()
    await stage.settle()

    await stage.tick(1800)

    assert stage.cluster.writes == []


async def test_restart_writes_nothing(stage: Stage) -> None:
    """A new scaler finds its own status and has nothing to add."""
    stage.cluster.add()
    await stage.settle()
    stage.restart()

    await stage.tick(60)

    assert stage.cluster.writes == []


async def test_figures_are_refreshed_every_five_seconds_at_most(stage: Stage) -> None:
    """A queue that moves without consequence is told at rest, not each tick."""
    stage.cluster.add(minReplicas=10)
    stage.cluster.deployments["sums-celery-worker"] = replace(
        stage.cluster.deployments["sums-celery-worker"], spec_replicas=10, replicas=10
    )
    stage.broker.lengths["sums"] = 500
    await stage.settle()

    for length in range(501, 531):
        stage.broker.lengths["sums"] = length
        await stage.tick()

    assert stage.cluster.kinds() == ["status"] * 10  # 30 ticks of 2 s, one write in three
    await stage.tick(3)
    assert stage.cluster.statuses["sums"]["queued"] == 530


async def test_down_follows_the_calm(stage: Stage) -> None:
    """Sixty seconds after the last wish for more, and not before."""
    stage.cluster.add(replicas=4)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    stage.broker.lengths["sums"] = 0

    await stage.tick(29)
    held = stage.cluster.replicas()
    await stage.tick(2)

    assert (held, stage.cluster.replicas()) == (4, 2)
    assert stage.cluster.statuses["sums"]["lastScaleTime"]


async def test_outage_is_told_at_once_and_keeps_the_replicas(stage: Stage) -> None:
    """R1: hold exactly, say so within two polls, come back on its own."""
    stage.cluster.add(replicas=4, behavior=AT_ONCE)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    stage.broker.goes_away()

    await stage.tick()

    assert stage.cluster.condition("Ready") == ("False", "BrokerUnreachable")
    assert stage.cluster.condition("Active") == ("Unknown", "DemandUnknown")
    assert "queued" not in stage.cluster.statuses["sums"]
    await stage.tick(300)
    assert stage.cluster.replicas() == 4
    stage.broker.comes_back()
    await stage.tick()
    assert stage.cluster.condition("Ready") == ("True", "Watching")
    assert stage.cluster.statuses["sums"]["queued"] == 400


async def test_outage_does_not_wake_a_sleeping_pool(stage: Stage) -> None:
    """R2: nothing known is no reason to start workers."""
    stage.cluster.add(replicas=0, minReplicas=0)
    stage.broker.goes_away()

    await stage.tick(30)

    assert stage.cluster.replicas() == 0
    assert "scale" not in stage.cluster.kinds()


async def test_wrong_key_of_one_pool_leaves_the_others_alone(stage: Stage) -> None:
    """R3: one unknown queue holds its pool, and no other."""
    stage.cluster.add("sums", replicas=4, behavior=AT_ONCE)
    stage.cluster.add("mails", replicas=4, behavior=AT_ONCE)
    stage.broker.lengths |= {"sums": UNKNOWN}
    stage.broker.key_failures["sums"] = BrokerFailure(Ready.BROKER_UNREADABLE, "sums is no list")

    await stage.tick()

    assert (stage.cluster.replicas("sums"), stage.cluster.replicas("mails")) == (4, 2)
    assert stage.cluster.condition("Ready", "sums") == ("False", "BrokerUnreadable")
    assert stage.cluster.condition("Ready", "mails") == ("True", "Watching")


async def test_invalid_object_keeps_its_last_good_policy(stage: Stage) -> None:
    """R15: what was valid is followed on, with the words about what is not."""
    stage.cluster.add()
    await stage.settle()
    stage.cluster.edit(minReplicas=9, maxReplicas=3)
    stage.broker.lengths["sums"] = 400

    await stage.tick()

    assert stage.cluster.replicas() == 4
    assert stage.cluster.condition("Ready") == ("False", "InvalidSpec")
    ready = stage.cluster.statuses["sums"]["conditions"][0]
    assert ready["message"] == (
        "minReplicas must not be greater than maxReplicas (9 > 3); the last valid spec is followed"
    )
    assert stage.cluster.statuses["sums"]["observedGeneration"] == 2


async def test_object_that_was_never_valid_is_reported_and_left(stage: Stage) -> None:
    """Without a good policy nothing is scaled, and the next object is served."""
    stage.cluster.add("broken")
    stage.cluster.edit("broken", maxReplicas=-1)
    stage.cluster.add("sums")
    stage.broker.lengths["sums"] = 400

    await stage.tick()

    assert stage.cluster.condition("Ready", "broken") == ("False", "InvalidSpec")
    assert "desiredReplicas" not in stage.cluster.statuses["broken"]
    assert stage.cluster.replicas("sums") == 4


async def test_missing_deployment_is_told_and_taken_up_when_it_comes(stage: Stage) -> None:
    """R17: never created, never forgotten."""
    stage.cluster.add()
    deployment = stage.cluster.deployments.pop("sums-celery-worker")
    stage.broker.lengths["sums"] = 400
    await stage.tick()
    assert stage.cluster.condition("Ready") == ("False", "DeploymentNotFound")
    assert "replicas" not in stage.cluster.statuses["sums"]

    stage.cluster.deployments["sums-celery-worker"] = deployment
    await stage.tick()

    assert stage.cluster.condition("Ready") == ("True", "Watching")
    assert stage.cluster.replicas() == 4


async def test_horizontal_pod_autoscaler_is_given_way(stage: Stage) -> None:
    """R14: with an HPA on the Deployment the scaler says so and holds."""
    stage.cluster.add()
    stage.cluster.autoscalers["sums-celery-worker"] = "keda-hpa-sums"
    stage.broker.lengths["sums"] = 900

    await stage.tick(60)

    assert stage.cluster.replicas() == 2
    assert stage.cluster.condition("Ready") == ("False", "OtherScaler")


async def test_two_objects_on_one_deployment_both_hold(stage: Stage) -> None:
    """Two policies for one number would undo each other for ever."""
    stage.cluster.add("sums")
    stage.cluster.celeries["twin"] = replace(stage.cluster.celeries["sums"], name="twin", uid="celery-twin")
    stage.broker.lengths["sums"] = 900

    await stage.tick(5)

    assert stage.cluster.replicas() == 2
    assert stage.cluster.condition("Ready", "sums") == ("False", "OtherScaler")
    assert stage.cluster.condition("Ready", "twin") == ("False", "OtherScaler")


async def test_change_by_hand_is_kept_for_the_calm(stage: Stage) -> None:
    """R14: `kubectl scale` holds for a minute from when it was seen, then the demand decides."""
    stage.cluster.add()
    await stage.settle()
    by_hand(stage, replicas=7)

    await stage.tick(30)
    kept = stage.cluster.replicas()
    await stage.tick(32)

    assert (kept, stage.cluster.replicas()) == (7, 2)
    reasons = [what[0] for kind, _, what in stage.cluster.writes if kind == "event"]
    assert reasons == ["ChangedElsewhere", "ScaleDownHeld", "AtMinimum"]


async def test_change_by_hand_that_was_settled_is_no_news_to_a_new_scaler(stage: Stage) -> None:
    """An old `kubectl scale` does not hold a flood back after each restart."""
    stage.cluster.add()
    by_hand(stage, replicas=4)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    stage.restart()
    stage.broker.lengths["sums"] = 900

    await stage.tick()

    assert stage.cluster.replicas() == 9


def by_hand(stage: Stage, replicas: int) -> None:
    was = stage.cluster.deployments["sums-celery-worker"]
    stage.cluster.deployments[was.name] = replace(
        was,
        spec_replicas=replicas,
        replicas=replicas,
        foreign_owner=ReplicasOwner(manager="kubectl", at=None),
    )


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


async def test_outage_of_a_thousand_pools_is_told_in_portions(stage: Stage) -> None:
    """Conditions at once, events a few at a time."""
    for number in range(100):
        stage.cluster.add(f"p{number}")
    for _ in range(8):
        await stage.tick(8)
    stage.cluster.writes.clear()
    stage.broker.goes_away()

    await stage.tick()

    assert (stage.cluster.kinds().count("status"), stage.cluster.kinds().count("event")) == (100, 20)
    await stage.tick(10)
    assert stage.cluster.kinds().count("event") == 100


async def test_flapping_reason_makes_no_storm_of_events(stage: Stage) -> None:
    """One event in ten seconds about one object, however often its reason changes."""
    stage.cluster.add()
    await stage.settle()

    for _ in range(30):
        stage.broker.goes_away()
        await stage.tick()
        stage.broker.comes_back()
        await stage.tick()

    assert stage.cluster.kinds().count("event") <= 12  # 120 s


async def test_crash_over_one_object_spares_the_others(stage: Stage) -> None:
    """A bug in one object's data is reported as such, and the next object is served."""
    stage.cluster.add("broken")
    stage.cluster.add("sums")
    stage.broker.lengths["sums"] = 400
    stage.broker.lengths["broken"] = "a bug"  # type: ignore[assignment]  # that is the point

    stage.at += 2
    await stage.loop.tick(stage.at)

    assert stage.cluster.replicas("sums") == 4
    assert len(stage.telemetry.crashes) == 1


async def test_unread_namespace_is_no_tick(stage: Stage) -> None:
    """Before the first lists have come there is nothing to decide about."""
    stage.cluster.unread = failure(Kind.NOT_READ_YET)

    with pytest.raises(ClusterFailure):
        await stage.loop.tick(AT)


KILLS = [1, -1, 0, -2, 2, -3]
"""Before and after each of the three writes of a step: numbers as `FakeCluster.kill_at` takes them."""


@pytest.mark.parametrize("kill_at", KILLS)
@pytest.mark.parametrize(
    ("replicas", "length", "expected"), [(2, 900, 4), (8, 0, 6)], ids=["on the way up", "on the way down"]
)
async def test_kill_at_any_write_doubles_no_step(
    kill_at: int, replicas: int, length: int, expected: int
) -> None:
    """R8: a scaler killed before or after any write is followed by one that ends at the same replicas."""
    two = [{"type": "Pods", "value": 2, "periodSeconds": 60}]
    limits = {
        "scaleUp": {"policies": two},
        "scaleDown": {"policies": two, "stabilizationWindowSeconds": 0},
    }
    stage = Stage()
    stage.cluster.add(replicas=replicas, behavior=limits)
    stage.broker.lengths["sums"] = replicas * 100
    await stage.settle()
    stage.broker.lengths["sums"] = length
    stage.cluster.kill_at = kill_at
    with pytest.raises(Killed):
        await stage.tick()
    stage.cluster.kill_at = None
    stage.restart()

    course = []
    for _ in range(28):  # 56 s: within one period of the limit
        await stage.tick()
        course.append(stage.cluster.replicas())

    assert set(course) == {expected}


async def test_kills_in_a_row_converge(stage: Stage) -> None:
    """R8: killed at each write of each step, the replicas still arrive, and never overshoot."""
    stage.cluster.add(behavior=TWO_A_MINUTE)
    stage.broker.lengths["sums"] = 900
    course = [2]

    for number in itertools.count():
        stage.cluster.kill_at = len(stage.cluster.writes) + number % 3
        try:
            await stage.tick(5)
        except Killed:
            stage.restart()
        stage.cluster.kill_at = None
        stage.at += 7
        if stage.cluster.replicas() != course[-1]:
            course.append(stage.cluster.replicas())
        if course[-1] == 9:
            break
        assert number < 200

    assert course == [2, 4, 6, 8, 9]  # ceil(900 / 100), by two a minute


async def test_run_stops_at_once_and_gives_the_lease_back() -> None:
    """SIGTERM: within a second, and the next scaler need not wait."""
    stage = Stage(at=AT + 1)
    stage.cluster.add()
    stop = asyncio.Event()
    running = asyncio.create_task(stage.loop.run(stop))
    await until(lambda: len(stage.cluster.writes) >= 2)
    begin = time.monotonic()
    stop.set()
    await running

    assert stage.lease.released
    assert time.monotonic() - begin < 1


async def test_run_outlives_every_exception() -> None:
    """No exception leaves the loop: it is told, and the next tick comes."""
    stage = Stage(at=AT + 1)
    stage.cluster.add()
    stage.broker = _BrokenBroker()
    stage.lease = _BrokenLease()
    stage.cluster = _BrokenCluster(celeries=stage.cluster.celeries, deployments=stage.cluster.deployments)
    stage.restart()
    stop = asyncio.Event()
    running = asyncio.create_task(stage.loop.run(stop))
    await until(lambda: {str(error) for error in stage.telemetry.crashes} >= {"broker", "lease", "watch"})
    alive = stage.loop.alive()
    stop.set()
    await running

    assert alive


class _BrokenBroker(FakeBroker):
    async def read(self, queues: object, at: float) -> Any:  # noqa: ARG002  # the Protocol's form
        raise RuntimeError("broker")


class _BrokenLease(FakeLease):
    async def keep(self, at: float) -> None:  # noqa: ARG002  # the Protocol's form
        raise RuntimeError("lease")


class _BrokenCluster(FakeCluster):
    async def follow(self) -> None:
        raise RuntimeError("watch")


async def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_alive_is_the_age_of_the_last_tick() -> None:
    """/healthz looks at the loop alone: ten seconds without a tick are too many."""
    stage = Stage()
    stage.at = AT + 9.9
    young = stage.loop.alive()
    stage.at = AT + 10

    assert (young, stage.loop.alive()) == (True, False)


async def test_once_ticks_and_leaves() -> None:
    """`--once` holds the lease for one tick and tells whether all is well."""
    stage = Stage()
    stage.cluster.add()
    stage.broker.lengths["sums"] = 400
    well = await stage.loop.once()
    stage.broker.goes_away()
    ill = await stage.loop.once()

    assert (well, ill) == (True, False)
    assert stage.cluster.replicas() == 4
    assert stage.lease.released
