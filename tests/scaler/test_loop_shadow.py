"""A pool in shadow: everything is decided and told, nothing is done; and a paused one says that it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaler.cluster.objects import ReplicasOwner
from scaler.pool.decision import Reason
from tests.scaler.stage import AT_ONCE, TWO_A_MINUTE, Stage

WORKERS = "sums-celery-worker"
TOLD = {"status", "event"}
"""Kinds of write that a pool in shadow makes, all of them to its own object or about it."""


async def test_a_pool_in_shadow_only_says_what_it_would_do(stage: Stage) -> None:
    """Up, down and up again: the wish is on the status and in events, the replicas stay."""
    stage.cluster.add(mode="shadow", behavior=AT_ONCE)
    for messages, wish in ((900, 9), (0, 2), (450, 5)):
        stage.broker.lengths["sums"] = messages
        await stage.tick(10)

        assert stage.cluster.statuses["sums"]["desiredReplicas"] == wish
        assert stage.cluster.replicas() == 2
    assert set(stage.cluster.kinds()) == TOLD
    assert stage.workers.told == []
    notes = [what[3] for kind, _, what in stage.cluster.writes if kind == "event"]
    assert [note.partition(":")[0] for note in notes] == [
        "in shadow, would set 9 instead of 2",
        "in shadow, would keep 2",
        "in shadow, would set 5 instead of 2",
    ]
    assert stage.cluster.condition("ScalingActive") == ("False", "Shadow")
    assert stage.cluster.condition("Ready") == ("True", "Watching")


async def test_the_same_wish_is_told_once_also_by_the_next_scaler(stage: Stage) -> None:
    """A shadow that repeats itself would fill the namespace with events."""
    stage.cluster.add(mode="shadow")
    stage.broker.lengths["sums"] = 900
    await stage.tick(20)
    stage.restart()
    await stage.tick(20)

    assert stage.cluster.kinds().count("event") == 1


async def test_another_autoscaler_is_no_trouble_in_shadow(stage: Stage) -> None:
    """It is named, its replicas are what each decision starts from, and nothing holds."""
    stage.cluster.add(mode="shadow", behavior=AT_ONCE)
    stage.cluster.autoscalers[WORKERS] = "theirs"
    stage.broker.lengths["sums"] = 850
    owner = ReplicasOwner(manager="kube-controller-manager", at=stage.at)
    for replicas, asked in ((2, 9), (7, 9), (10, 9)):
        was = stage.cluster.deployments[WORKERS]
        stage.cluster.deployments[WORKERS] = replace(was, spec_replicas=replicas, foreign_owner=owner)
        await stage.tick()

        decision = stage.telemetry.reports["sums"].decision
        assert decision is not None
        assert (decision.desired_replicas, stage.cluster.replicas()) == (asked, replicas)
    conditions = stage.cluster.statuses["sums"]["conditions"]
    assert [item["message"] for item in conditions if item["type"] == "ScalingActive"] == [
        "in shadow beside HorizontalPodAutoscaler/theirs: decisions are only told"
    ]
    assert "OtherScaler" not in str(stage.cluster.statuses["sums"])


async def test_step_limits_are_counted_from_what_is_there(stage: Stage) -> None:
    """No wish was carried out, so each tick allows the first step from where the other one has come to."""
    stage.cluster.add(mode="shadow", behavior=TWO_A_MINUTE)
    stage.broker.lengths["sums"] = 900
    for replicas, wish in ((2, 4), (2, 4), (6, 8)):
        was = stage.cluster.deployments[WORKERS]
        stage.cluster.deployments[WORKERS] = replace(was, spec_replicas=replicas)
        await stage.tick()

        decision = stage.telemetry.reports["sums"].decision
        assert decision is not None
        assert (decision.desired_replicas, decision.reason) == (wish, Reason.STEP_LIMITED)
    assert "scaleEvents" not in stage.cluster.statuses["sums"]


async def test_a_drain_is_undone_when_its_pool_goes_into_shadow(stage: Stage) -> None:
    """Who was told to stop consuming would be deaf for ever; after that nobody is told anything."""
    stage.cluster.add(replicas=4, behavior=AT_ONCE)
    stage.cluster.snapshot()
    busy = sorted(stage.workers.living())
    stage.workers.running = {pod: {f"task-{pod}"} for pod in busy}
    stage.workers.acknowledged = {f"task-{pod}" for pod in busy}
    await stage.tick(3)
    assert stage.workers.stopped
    stage.cluster.edit(mode="shadow", behavior=AT_ONCE)
    await stage.tick(3)
    told = len(stage.workers.told)
    await stage.tick(10)

    assert stage.workers.stopped == set()
    assert [what for what, _ in stage.workers.told if what == "stop"] == ["stop"] * 2
    assert len(stage.workers.told) == told
    assert "draining" not in stage.cluster.statuses["sums"]
    assert stage.cluster.replicas() == 4


async def test_marks_and_deaf_workers_of_others_are_left_alone_in_shadow(stage: Stage) -> None:
    """Another tool may have marked a pod, and an app may have stopped a worker on purpose."""
    stage.cluster.add(mode="shadow")
    stage.cluster.snapshot()
    pod = min(stage.workers.living())
    stage.cluster.change(pod, deletion_cost=-5000)
    stage.workers.stopped = {pod}
    await stage.tick(100)

    assert set(stage.cluster.kinds()) <= TOLD
    assert stage.workers.told == []


async def test_a_stuck_worker_is_not_evicted_in_shadow(stage: Stage) -> None:
    stage.cluster.add(mode="shadow")
    stage.broker.lengths["sums"] = 150
    await stage.tick(400)

    assert "evict" not in stage.cluster.kinds()


async def test_a_pool_that_leaves_shadow_acts_at_once(stage: Stage) -> None:
    stage.cluster.add(mode="shadow")
    stage.broker.lengths["sums"] = 900
    await stage.tick(5)
    stage.cluster.edit(mode="active")
    await stage.tick()

    assert stage.cluster.replicas() == 9
    assert stage.cluster.condition("ScalingActive") == ("True", "Scaling")


@pytest.mark.parametrize("mode", ["active", "shadow"])
async def test_a_paused_pool_says_so_in_its_condition(stage: Stage, mode: str) -> None:
    """Paused is stronger than shadow: there is no wish to tell, and what is told is told once."""
    stage.cluster.add(paused=True, mode=mode)
    stage.broker.lengths["sums"] = 900
    await stage.tick(10)
    stage.restart()
    await stage.tick(10)

    assert stage.cluster.kinds().count("event") == 1
    assert stage.cluster.condition("ScalingActive") == ("False", "Paused")
    assert stage.cluster.statuses["sums"]["desiredReplicas"] == 2
    assert stage.cluster.replicas() == 2
