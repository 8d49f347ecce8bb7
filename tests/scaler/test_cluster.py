"""What the scaler writes to a real API server, and what a write is conditional on."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from scaler import contract
from scaler.cluster.lease import Lease
from scaler.cluster.namespace import Namespace
from scaler.cluster.objects import ClusterFailure, Kind
from tests.scaler.site import (
    WORKERS,
    Requests,
    Site,
    celery,
    followed,
    ready,
    seen,
    staged,
    until,
)

pytestmark = pytest.mark.cluster


async def test_status_is_stored_as_it_was_written(site: Site, requests: Requests) -> None:
    """The CRD's schema takes the whole document: nothing is pruned, nothing refused."""
    two = [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    site.apply(celery(behavior={"scaleUp": {"policies": two}}))
    async with staged(site, requests) as stage:
        await until(lambda: stage.namespace.snapshot().celeries["sums"].generation > 1)
        await seen(stage.namespace)
        stage.broker.lengths["sums"] = 400
        await stage.tick()
        await stage.tick()
        stage.broker.lengths["sums"] = 100
        await stage.tick()
        written = stage.loop._pools["sums"].written  # noqa: SLF001  # what it believes to be stored

    assert stage.telemetry.failures == []
    assert set(written) >= {"scaleEvents", "lastScaleTime", "calmSince", "decision", "conditions"}
    assert site.get("celery/sums")["status"] == json.loads(json.dumps(written))


async def test_unknown_figures_are_removed_from_the_status(site: Site, requests: Requests) -> None:
    """An outage takes the figures out of the stored status; no 0 is left in their place."""
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        stage.broker.lengths["sums"] = 190
        await stage.tick()
        before = site.get("celery/sums")["status"]
        stage.broker.goes_away()
        await stage.tick()
        after = site.get("celery/sums")["status"]

    assert (before["queued"], before["unacked"]) == (190, 0)
    assert "queued" not in after
    assert "unacked" not in after
    assert [(c["status"], c["reason"]) for c in after["conditions"] if c["type"] == "Ready"] == [
        ("False", "BrokerUnreachable")
    ]


async def test_events_tell_of_the_object(site: Site, requests: Requests) -> None:
    """`kubectl describe` shows why the replicas changed."""
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        stage.broker.lengths["sums"] = 400
        await stage.tick()

    described = site.run("describe", "celery", "sums")
    assert "DemandRose" in described
    assert "2 to 4 replicas: demand 400" in described


async def test_scale_needs_the_replicas_that_were_seen(site: Site, requests: Requests) -> None:
    """R10: a decision about two replicas is not carried out on three."""
    async with followed(site, requests) as namespace:
        _, found = await seen(namespace)
        site.run("scale", f"deployment/{WORKERS}", "--replicas=3")
        with pytest.raises(ClusterFailure) as changed:
            await namespace.set_replicas(replace(found, spec_replicas=2), 5)
        with pytest.raises(ClusterFailure) as another:
            await namespace.set_replicas(replace(found, spec_replicas=3, uid="another"), 5)

    assert (changed.value.kind, another.value.kind) == (Kind.CONFLICT, Kind.CONFLICT)
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 3


async def test_scale_from_and_to_nothing(site: Site, requests: Requests) -> None:
    """The API leaves a 0 out of Scale, and the scaler's write still is conditional."""
    async with followed(site, requests) as namespace:
        _, found = await seen(namespace)
        await namespace.set_replicas(found, 0)
        zero = await until(lambda: (d := namespace.snapshot().deployments[WORKERS]).replicas == 0 and d)
        with pytest.raises(ClusterFailure) as stale:
            await namespace.set_replicas(replace(zero, resource_version=1), 1)
        await until(lambda: wakes(namespace))
        await namespace.set_replicas(namespace.snapshot().deployments[WORKERS], 3)

    assert stale.value.kind is Kind.CONFLICT
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 3


def wakes(namespace: Namespace) -> bool:
    return namespace.snapshot().deployments[WORKERS].spec_replicas == 0


async def test_status_of_an_object_made_again_is_not_written(site: Site, requests: Requests) -> None:
    """R16: what was found about one object is not told of the next one of its name."""
    async with followed(site, requests) as namespace:
        old, _ = await seen(namespace)
        site.run("delete", "celery", "sums")
        await until(lambda: not namespace.snapshot().celeries)
        with pytest.raises(ClusterFailure) as gone:
            await namespace.write_status(old, {"replicas": 9})
        site.apply(celery())
        with pytest.raises(ClusterFailure) as another:
            await namespace.write_status(old, {"replicas": 9})

    assert (gone.value.kind, another.value.kind) == (Kind.NOT_FOUND, Kind.CONFLICT)
    assert "status" not in site.get("celery/sums")


async def test_stored_object_that_is_invalid_is_told(site: Site, requests: Requests) -> None:
    """R15: what an older schema let in is reported with the words of the rule, and not followed."""
    async with staged(site, requests) as stage:
        found, _ = await seen(stage.namespace)
        stage.namespace._celeries.items["sums"] = replace(  # noqa: SLF001  # no schema of ours lets it in
            found, policy=None, invalid=contract.MIN_ABOVE_MAX.message
        )
        await stage.tick()

    assert ready(site) == ("False", "InvalidSpec")


async def test_lease_is_held_by_one_and_handed_over(site: Site, requests: Requests) -> None:
    """R11: created, renewed by one PUT, refused to another, given back, taken."""
    async with followed(site, requests, "a") as one, followed(site, requests, "b") as two:
        first, second = Lease(one, "a"), Lease(two, "b")
        at = time.time()
        await first.keep(at)
        await second.keep(at)
        await first.keep(at + 6)
        alone = (first.held(at + 6), second.held(at + 6))
        await first.release(at + 7)
        await second.keep(at + 8)

    assert alone == (True, False)
    assert second.held(at + 8)
    lease = site.get(f"lease/{contract.SCALER_NAME}")["spec"]
    assert (lease["holderIdentity"], lease["leaseDurationSeconds"], lease["leaseTransitions"]) == ("b", 15, 1)


async def test_lost_race_for_the_lease_is_a_conflict(site: Site, requests: Requests) -> None:
    """Of two that saw the same lease, one writes it."""
    async with followed(site, requests) as namespace:
        made = await namespace.create_lease("a", time.time())
        await namespace.write_lease("b", made, time.time())
        with pytest.raises(ClusterFailure) as late:
            await namespace.write_lease("c", made, time.time())
        with pytest.raises(ClusterFailure) as twice:
            await namespace.create_lease("c", time.time())

    assert (late.value.kind, twice.value.kind) == (Kind.CONFLICT, Kind.CONFLICT)
