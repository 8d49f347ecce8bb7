"""What the loop writes when, over a broker and a cluster that a test steers; and what it does not."""

from __future__ import annotations

from dataclasses import replace

from scaler.broker.backlog import BrokerFailure
from scaler.cluster.objects import ReplicasOwner
from scaler.contract import Ready
from scaler.pool.count import UNKNOWN
from tests.scaler.stage import AT_ONCE, Stage


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
        (
            "2 to 4 replicas: demand 400 to 404 (400 queued + 0 unacked + 0 to 4 running and acknowledged) "
            "at 100 a worker asks for 4 of now 2"
        ),
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
    """Sixty seconds after the last wish for more, and not before; then two polls for the idle to leave."""
    stage.cluster.add(replicas=4)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    stage.broker.lengths["sums"] = 0

    await stage.tick(29)
    held = stage.cluster.replicas()
    await stage.tick(4)

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

    await stage.tick(3)

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
    # The last one twice: when workers are chosen to leave, and when they are removed.
    assert reasons == ["ChangedElsewhere", "ScaleDownHeld", "AtMinimum", "AtMinimum"]


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
    assert {type(error) for error in stage.telemetry.crashes} == {AttributeError}
