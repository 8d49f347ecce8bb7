"""A scale-in step by step: who is told what and when, before the replicas fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scaler.broker.backlog import Unacked
from scaler.cluster.objects import VICTIM_COST
from scaler.workers.link import ControlUnavailable
from tests.scaler.stage import AT_ONCE, Stage


async def four_busy(**target: Any) -> Stage:
    """Four workers with a task each, of which two will do as soon as the queue is empty."""
    stage = Stage()
    stage.cluster.add(replicas=4, behavior=AT_ONCE, **target)
    stage.broker.lengths["sums"] = 400
    stage.workers.running = {f"sums-{number}": {f"task-{number}"} for number in range(4)}
    await stage.settle()
    stage.broker.lengths["sums"] = 0
    stage.workers.told.clear()
    return stage


async def test_idle_workers_leave_within_three_polls_and_two_writes_each(stage: Stage) -> None:
    """Chosen, told and marked, removed: and only the marked ones go. One status is enough for all of them."""
    stage.cluster.add(replicas=4, behavior=AT_ONCE)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    stage.broker.lengths["sums"] = 0

    await stage.tick()
    assert [victim["pod"] for victim in stage.cluster.statuses["sums"]["draining"]] == ["sums-3", "sums-2"]
    assert (stage.workers.told, stage.cluster.replicas()) == ([], 4)
    await stage.tick()
    assert stage.workers.told == [("stop", frozenset({"sums-2", "sums-3"}))]
    marks = [(name, cost) for kind, name, cost in stage.cluster.writes if kind == "mark"]
    assert marks == [("sums-2", VICTIM_COST), ("sums-3", VICTIM_COST)]
    assert stage.cluster.replicas() == 4
    await stage.tick()
    assert stage.cluster.replicas() == 2
    await stage.tick()

    assert stage.cluster.removed == ["sums-3", "sums-2"]
    said, done = stage.cluster.kinds(), stage.cluster.kinds().index("scale")
    assert [kind for kind in said[: done + 1] if kind != "event"] == ["status", "mark", "mark", "scale"]
    assert said.count("mark") + said.count("scale") == 3


async def test_idle_pool_is_asked_nothing(stage: Stage) -> None:
    """Heartbeats that come by themselves are enough, once there are some in a row."""
    stage.cluster.add()
    await stage.settle()
    stage.workers.asked.clear()

    await stage.tick(100)

    assert stage.workers.asked == []


async def test_status_has_the_victims_before_they_are_told_and_until_they_are_gone() -> None:
    stage = await four_busy()

    await stage.tick(5)

    kinds = [kind for kind, _, _ in stage.cluster.writes]
    assert kinds[0] == "status"
    assert stage.cluster.condition("Draining") == ("True", "WaitingForTasks")
    assert {what for what, _ in stage.workers.told} == {"stop"}
    assert len(stage.workers.told) == 4  # on every tick after the first
    assert (stage.cluster.replicas(), stage.cluster.kinds().count("mark")) == (4, 0)
    for pod in list(stage.workers.stopped):
        stage.workers.running[pod].clear()
    await stage.tick(3)
    assert stage.cluster.replicas() == 2
    assert set(stage.cluster.removed) == {"sums-2", "sums-3"}
    assert "draining" not in stage.cluster.statuses["sums"]
    assert stage.cluster.condition("Draining") == ("False", "NotDraining")


async def test_worker_that_finishes_first_goes_first() -> None:
    """One is done while the other still works: the replicas fall by one."""
    stage = await four_busy()
    await stage.tick(2)
    stage.workers.running["sums-2"].clear()

    await stage.tick(3)

    assert (stage.cluster.replicas(), stage.cluster.removed) == (3, ["sums-2"])


async def test_load_that_returns_takes_the_victims_back() -> None:
    """They are told at once, unmarked, and on the status until they say that they consume."""
    stage = await four_busy()
    stage.workers.running["sums-3"].clear()
    await stage.tick(2)
    assert [name for kind, name, _ in stage.cluster.writes if kind == "mark"] == ["sums-3"]
    stage.broker.lengths["sums"] = 400
    stage.workers.dumb = {"sums-2"}

    await stage.tick(3)

    assert stage.workers.stopped == {"sums-2"}
    assert stage.cluster.replicas() == 4
    assert [pod.deletion_cost for pod in stage.cluster.pods["sums-celery-worker"]] == [0, 0, 0, 0]
    assert [victim["pod"] for victim in stage.cluster.statuses["sums"]["draining"]] == ["sums-2"]
    assert stage.cluster.condition("Draining") == ("True", "TakenBack")
    stage.workers.dumb = set()
    await stage.tick(2)
    assert stage.workers.stopped == set()
    assert "draining" not in stage.cluster.statuses["sums"]


async def let_go(stage: Stage) -> str:
    """Until the replicas have fallen by one whose pod the ReplicaSet has not taken."""
    stage.workers.running["sums-3"].clear()
    await stage.tick(2)
    stage.cluster.lag = 100
    await stage.tick()
    assert stage.cluster.replicas() == 3
    assert stage.cluster.removed == []
    stage.workers.told.clear()
    return "sums-3"


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(lambda _: None, id="nothing else happens"),
        pytest.param(lambda stage: stage.broker.lengths.update(sums=400), id="the load returns"),
        pytest.param(lambda stage: stage.workers.silent.add("sums-0"), id="another one falls silent"),
        pytest.param(Stage.restart, id="the scaler is killed"),
        pytest.param(lambda stage: stage.broker.goes_away(), id="the broker is away"),
        pytest.param(lambda stage: stage.cluster.edit(mode="shadow"), id="the pool is set to shadow"),
    ],
)
async def test_one_that_was_let_go_stays_stopped_and_marked_until_it_is_taken(
    what: Callable[[Stage], None],
) -> None:
    """A ReplicaSet that is slow takes it whatever has been thought better of since."""
    stage = await four_busy()
    gone = await let_go(stage)
    what(stage)

    await stage.tick(20)

    assert gone in stage.workers.stopped
    assert stage.workers.living()[gone].deletion_cost == VICTIM_COST
    assert not [pods for what, pods in stage.workers.told if what == "resume" and gone in pods]
    stage.cluster.lag = 0
    stage.cluster.snapshot()
    if stage.cluster.replicas() < 4:
        assert stage.cluster.removed == [gone]


async def test_one_that_is_done_while_another_is_let_go_is_not_taken_in_its_stead() -> None:
    """The younger of the two is done in the very tick in which the replicas fall, and the load comes back."""
    stage = await four_busy()
    stage.workers.running["sums-2"].clear()
    await stage.tick(2)
    stage.workers.running["sums-3"].clear()
    stage.cluster.lag = 2
    await stage.tick()
    assert (stage.cluster.replicas(), stage.cluster.removed) == (3, [])
    stage.broker.lengths["sums"] = 400

    await stage.tick(4)

    assert stage.cluster.removed == ["sums-2"]
    assert "sums-3" not in stage.workers.stopped


async def test_replicas_do_not_fall_within_a_second_of_a_mark(stage: Stage) -> None:
    """A mark and `/scale` reach the ReplicaSet's controller by watches of their own."""
    stage.cluster.add(replicas=4, behavior=AT_ONCE)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    stage.broker.lengths["sums"] = 0
    await stage.tick(2)
    assert stage.cluster.kinds().count("mark") == 2

    stage.at -= 1.1
    await stage.tick()
    assert stage.cluster.replicas() == 4
    await stage.tick()
    assert stage.cluster.replicas() == 2


async def test_one_that_was_let_go_and_is_never_taken_works_again() -> None:
    """The load was back before the ReplicaSet had seen that it was away."""
    stage = await four_busy()
    gone = await let_go(stage)
    stage.broker.lengths["sums"] = 400
    await stage.tick()
    assert stage.cluster.replicas() == 4
    stage.cluster.lag = 0

    await stage.tick(4)
    assert gone in stage.workers.stopped
    await stage.tick(6)

    assert stage.workers.stopped == set()
    assert stage.cluster.removed == []
    assert stage.workers.living()[gone].deletion_cost == 0


async def test_deadline_cancels_the_drain_and_rests() -> None:
    """Nothing is killed: the workers work on, and the next drain begins after a while."""
    stage = await four_busy(drainSeconds=20)

    await stage.tick(14)

    assert stage.workers.stopped == set()
    assert stage.cluster.replicas() == 4
    assert stage.cluster.condition("Draining")[1] == "DrainDeadline"
    assert "draining" not in stage.cluster.statuses["sums"]
    await stage.tick(32)
    assert len(stage.workers.stopped) == 2


async def test_no_scale_in_during_a_roll_out() -> None:
    stage = await four_busy()
    await stage.tick(2)
    was = stage.cluster.deployments["sums-celery-worker"]
    stage.cluster.deployments[was.name] = replace(was, rolling_out=True)
    for tasks in stage.workers.running.values():
        tasks.clear()

    await stage.tick(10)

    assert stage.workers.stopped == set()
    assert (stage.cluster.replicas(), stage.cluster.condition("Draining")[1]) == (4, "RollingOut")


async def test_lower_maximum_drains_too() -> None:
    """`maxReplicas` below what runs is a wish like any other: no task pays for it."""
    stage = await four_busy()
    stage.broker.lengths["sums"] = 400
    stage.cluster.edit(maxReplicas=3, behavior=AT_ONCE)

    await stage.tick(5)
    assert (stage.cluster.replicas(), len(stage.workers.stopped)) == (4, 1)
    victim = next(iter(stage.workers.stopped))
    stage.workers.running[victim].clear()
    await stage.tick(3)

    assert (stage.cluster.replicas(), stage.cluster.removed) == (3, [victim])


async def test_without_remote_control_only_workers_idle_by_heartbeat_leave() -> None:
    """Nobody answers: slower, and the condition says why."""
    stage = await four_busy()
    stage.workers.remote_control = False
    stage.workers.running["sums-0"].clear()

    await stage.tick(20)

    assert stage.cluster.removed == ["sums-0"]
    assert stage.cluster.replicas() == 3
    message = next(
        item["message"] for item in stage.cluster.statuses["sums"]["conditions"] if item["type"] == "Draining"
    )
    assert "no worker answers remote control" in message


async def test_without_remote_control_an_outage_begins_the_wait_anew() -> None:
    """What a worker took while nobody looked is in no heartbeat from before."""
    stage = await four_busy()
    stage.workers.remote_control = False
    await stage.tick(6)
    stage.broker.goes_away()
    stage.workers.running["sums-0"].clear()
    await stage.tick(6)
    stage.broker.comes_back()

    await stage.tick()
    assert "mark" not in stage.cluster.kinds()
    await stage.tick(5)
    assert stage.cluster.removed == ["sums-0"]


async def test_nobody_leaves_while_nothing_is_heard() -> None:
    """Silent workers are unknown: they may be running as much as they can."""
    stage = await four_busy()
    stage.workers.remote_control = False
    stage.workers.silent = {f"sums-{number}" for number in range(4)}

    await stage.tick(100)

    assert stage.cluster.replicas() == 4
    assert stage.cluster.kinds().count("mark") == 0


async def test_broker_that_takes_no_questions_keeps_everybody() -> None:
    """A failure to ask is nobody's answer, and no proof that nobody answers."""
    stage = await four_busy()
    stage.workers.failure = ControlUnavailable("the broker hangs")
    for tasks in stage.workers.running.values():
        tasks.clear()

    await stage.tick(10)

    assert stage.cluster.replicas() == 4
    stage.workers.failure = None
    await stage.tick(4)
    assert stage.cluster.replicas() == 2


async def test_worker_that_restarts_half_way_is_told_again() -> None:
    stage = await four_busy()
    await stage.tick(3)
    stage.workers.stopped.clear()
    stage.workers.running["sums-3"] = {"another"}

    await stage.tick()

    assert stage.workers.stopped == {"sums-2", "sums-3"}
    assert stage.cluster.replicas() == 4


async def test_deaf_worker_is_found_after_the_broker_was_away(stage: Stage) -> None:
    """Before Celery 5.7 a worker that was taken back forgets it on a reconnect (celery/celery#7733)."""
    stage.cluster.add(replicas=4)
    stage.broker.lengths["sums"] = 400
    await stage.settle()
    await stage.tick(60)  # a new scaler looks, too, for nearly three minutes
    stage.workers.stopped = {"sums-1"}
    await stage.tick(5)
    assert stage.workers.stopped == {"sums-1"}

    stage.workers.since = stage.at  # it listens anew
    await stage.tick(2)

    assert stage.workers.stopped == set()


async def test_pod_that_boots_is_waited_for_as_it_would_be_removed_first() -> None:
    stage = await four_busy()
    stage.workers.running["sums-3"].clear()
    stage.workers.running["sums-2"].clear()
    await stage.tick()
    stage.cluster.change("sums-0", ready=False)

    await stage.tick(5)
    assert (stage.cluster.replicas(), stage.cluster.condition("Draining")[1]) == (4, "WaitingForPods")
    stage.cluster.change("sums-0", ready=True)
    await stage.tick(2)

    assert sorted(stage.cluster.removed) == ["sums-2", "sums-3"]


async def test_switched_off_the_handshake_takes_whom_the_replica_set_takes() -> None:
    """The check of the check: this is what the ledger has to notice."""
    stage = await four_busy()
    stage.handshake = False
    stage.restart()

    await stage.tick(2)

    assert stage.cluster.removed == ["sums-3", "sums-2"]
    assert stage.workers.told == []


async def test_early_acknowledged_tasks_are_asked_about_before_anybody_goes() -> None:
    """No broker knows of them: the queue is empty, and all four workers run."""
    stage = await four_busy(minReplicas=0)
    stage.workers.acknowledged = {f"task-{number}" for number in range(4)}
    stage.broker.unacked = Unacked()

    await stage.tick(60)

    assert stage.cluster.removed == []
    assert stage.cluster.condition("Active") == ("True", "DemandPresent")
    for tasks in stage.workers.running.values():
        tasks.clear()
    await stage.tick(6)
    assert stage.cluster.replicas() == 0
