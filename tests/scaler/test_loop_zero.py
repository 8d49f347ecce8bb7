"""Down to no workers and back: what keeps the last one, what wakes the first, and who is evicted."""

from __future__ import annotations

from scaler.broker.backlog import Unacked
from tests.scaler.stage import AT_ONCE, Stage


def asleep() -> Stage:
    stage = Stage()
    stage.cluster.add(replicas=0, minReplicas=0, behavior=AT_ONCE)
    return stage


async def test_first_message_wakes_within_one_poll() -> None:
    stage = asleep()
    await stage.settle()
    stage.broker.lengths["sums"] = 1

    await stage.tick()

    assert stage.cluster.replicas() == 1


async def test_last_worker_leaves_only_after_a_whole_quiet_minute(stage: Stage) -> None:
    """One task in the middle begins the minute anew; so does a read that failed."""
    stage.cluster.add(replicas=1, minReplicas=0)
    await stage.tick(20)
    stage.workers.running["sums-0"] = {"task"}
    stage.workers.acknowledged = {"task"}
    await stage.tick(2)
    stage.workers.running.clear()
    await stage.tick(25)
    stage.broker.goes_away()
    await stage.tick(2)
    stage.broker.comes_back()
    await stage.tick(29)
    assert stage.cluster.replicas() == 1

    await stage.tick(5)

    assert stage.cluster.replicas() == 0


async def test_worker_is_woken_in_time_for_what_will_be_due() -> None:
    """Before the task is due, by the time that a worker needs to start; not when it was sent."""
    stage = asleep()
    await stage.settle()
    stage.broker.lengths["sums"] = 0
    stage.broker.next_due["sums"] = stage.at + 100

    await stage.tick(38)
    slept = stage.cluster.replicas()
    await stage.tick(3)

    assert (slept, stage.cluster.replicas()) == (0, 1)
    assert stage.cluster.statuses["sums"]["nextDueTime"]
    assert stage.cluster.statuses["sums"]["decision"]["reason"] in ("DueSoon", "DemandMet")


async def test_last_worker_stays_for_what_is_due_before_it_could_be_back(stage: Stage) -> None:
    """Gone and woken again for each of a row of tasks, it would do nothing else."""
    stage.cluster.add(replicas=1, minReplicas=0)
    await stage.tick()
    for _ in range(10):
        stage.broker.next_due["sums"] = stage.at + 70
        await stage.tick(35)

    assert [what for kind, _, what in stage.cluster.writes if kind == "scale"] == []


async def test_last_worker_gives_far_etas_back_and_goes(stage: Stage) -> None:
    """It hoards them without doing anything; SIGTERM returns them to their queue."""
    stage.cluster.add(replicas=1, minReplicas=0, behavior=AT_ONCE)
    stage.broker.next_due["sums"] = stage.at + 3600
    stage.workers.scheduled["sums-0"] = [stage.at + 3600]

    await stage.tick(4)

    assert stage.cluster.replicas() == 0


async def test_stranded_messages_are_told_and_wake_a_worker_when_it_can_have_them() -> None:
    """kombu gives a dead worker's messages back after the visibility timeout, and only a worker does it."""
    stage = asleep()
    stage.broker.unacked = Unacked(by_queue={"sums": 3})
    taken_at = stage.at - 1000
    stage.broker.taken_at["sums"] = [taken_at, taken_at + 1, taken_at + 2]

    await stage.tick(5)

    assert (stage.cluster.replicas(), stage.cluster.statuses["sums"]["stranded"]) == (0, 3)
    assert stage.cluster.statuses["sums"]["unacked"] == 3
    stage.at = taken_at + 3599 - 2
    await stage.tick()
    assert stage.cluster.replicas() == 0
    await stage.tick(2)
    assert stage.cluster.replicas() == 1


async def test_messages_of_a_living_worker_are_not_stranded(stage: Stage) -> None:
    """The oldest worker has run for longer than these are held."""
    stage.cluster.add(replicas=2)
    stage.broker.unacked = Unacked(by_queue={"sums": 1})
    stage.broker.taken_at["sums"] = [stage.at - 900]

    await stage.tick(2)

    assert stage.cluster.statuses["sums"]["stranded"] == 0


async def test_worker_that_takes_nothing_is_evicted_and_only_one_in_five_minutes(stage: Stage) -> None:
    """Alive, not consuming, with work due for five minutes (celery/celery#8030, #8384, #9054)."""
    stage.cluster.add(replicas=3, minReplicas=3)
    stage.broker.lengths["sums"] = 50
    worked = 0
    for _ in range(155):
        worked += 1
        stage.workers.processed["sums-0"] = worked
        await stage.tick()

    assert [name for kind, name, _ in stage.cluster.writes if kind == "evict"] == ["sums-1"]
    events = [what[0] for kind, _, what in stage.cluster.writes if kind == "event"]
    assert events.count("WorkerStuck") == 1
    for _ in range(155):
        worked += 1
        stage.workers.processed["sums-0"] = worked
        await stage.tick()
    assert [name for kind, name, _ in stage.cluster.writes if kind == "evict"] == ["sums-1", "sums-2"]


async def test_nobody_is_evicted_while_there_is_nothing_to_do(stage: Stage) -> None:
    stage.cluster.add(replicas=2)

    await stage.tick(400)

    assert "evict" not in stage.cluster.kinds()
