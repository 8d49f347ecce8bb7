"""The scaler's reads and writes against a real API server, with no more rights than its Role gives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from scaler import cluster as cluster_module
from scaler import contract
from scaler.cluster import Api
from scaler.lease import Lease
from scaler.loop import Loop
from scaler.namespace import Namespace
from scaler.objects import CeleryObject, ClusterFailure, Deployment, Kind
from tests.scaler.fakes import FakeBroker, FakeTelemetry
from tests.scaler.site import WORKERS, Site, celery, deployment

pytestmark = pytest.mark.cluster

Requests = list[tuple[str, str, str]]


@pytest.fixture
def requests() -> Iterator[Requests]:
    made: Requests = []
    yield made
    if not any(code == "403" for _, _, code in made):
        assert {(verb, resource) for verb, resource, _ in made} <= rights()


def rights() -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for rule in contract.RBAC_RULES
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


@contextlib.asynccontextmanager
async def followed(site: Site, requests: Requests, identity: str = "me") -> AsyncIterator[Namespace]:
    """The namespace with its watches running."""
    api = Api(site.namespace, lambda *request: requests.append(request))
    namespace = Namespace(api, site.namespace, identity)
    task = asyncio.create_task(namespace.follow())
    try:
        yield namespace
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


async def until(reached: Callable[[], Any], seconds: float = 20) -> Any:
    """What `reached` gives as soon as it is true; a namespace that is not read yet is not."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ClusterFailure, KeyError):
            if found := reached():
                return found
        assert time.monotonic() < deadline, "not reached in time"
        await asyncio.sleep(0.05)


async def seen(namespace: Namespace) -> tuple[CeleryObject, Deployment]:
    """Object and Deployment once both are read and the Deployment has its pods."""

    def both() -> tuple[CeleryObject, Deployment] | None:
        snapshot = namespace.snapshot()
        found = snapshot.deployments[WORKERS]
        return (snapshot.celeries["sums"], found) if found.replicas is not None else None

    found = await until(both)
    assert isinstance(found, tuple)
    return found


@dataclass(slots=True)
class Stage:
    """A loop whose broker is steered and whose cluster is real."""

    loop: Loop
    broker: FakeBroker
    telemetry: FakeTelemetry
    lease: Lease
    namespace: Namespace

    async def tick(self) -> None:
        at = time.time()
        with contextlib.suppress(ClusterFailure):
            await self.lease.keep(at)
        await self.loop.tick(at)


@contextlib.asynccontextmanager
async def staged(site: Site, requests: Requests) -> AsyncIterator[Stage]:
    async with followed(site, requests) as namespace:
        broker, telemetry = FakeBroker(), FakeTelemetry()
        lease = Lease(namespace, "me")
        loop = Loop(broker=broker, cluster=namespace, lease=lease, telemetry=telemetry, poll_seconds=2)
        yield Stage(loop, broker, telemetry, lease, namespace)


async def test_calls_equal_the_rights_of_the_role(site: Site, requests: Requests) -> None:
    """A whole life needs every verb of the Role, and none that it lacks."""
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        stage.broker.lengths["sums"] = 400
        await stage.tick()
        await stage.lease.keep(time.time() + 6)
        await stage.lease.release(time.time())

    assert [request for request in requests if request[2] in ("403", "none")] == []
    assert {(verb, resource) for verb, resource, _ in requests} == rights()
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 4


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


async def test_own_write_is_seen_at_once(site: Site, requests: Requests) -> None:
    """The next tick goes by what was just written, whether the watch has told of it or not."""
    async with followed(site, requests) as namespace:
        _, found = await seen(namespace)
        await namespace.set_replicas(found, 4)
        at_once = namespace.snapshot().deployments[WORKERS].spec_replicas
        later = await until(
            lambda: (d := namespace.snapshot().deployments[WORKERS]).replicas == 4 and d.spec_replicas
        )

    assert (at_once, later) == (4, 4)


async def test_foreign_write_is_told_and_ends_with_our_own(site: Site, requests: Requests) -> None:
    """R14: managedFields name who set the replicas last; creation counts as nobody."""
    async with followed(site, requests) as namespace:
        _, created = await seen(namespace)
        site.run("scale", f"deployment/{WORKERS}", "--replicas=5")
        foreign = await until(
            lambda: (d := namespace.snapshot().deployments[WORKERS]).spec_replicas == 5 and d
        )
        await namespace.set_replicas(foreign, 3)
        ours = await until(lambda: (d := namespace.snapshot().deployments[WORKERS]).replicas == 3 and d)

    assert created.foreign_owner is None
    assert foreign.foreign_owner is not None
    assert foreign.foreign_owner.manager.startswith("kubectl")
    assert ours.foreign_owner is None


async def test_kubectl_edit_of_another_field_is_no_foreign_write(site: Site, requests: Requests) -> None:
    """A new image leaves the replicas where they are, and says nothing about them."""
    async with followed(site, requests) as namespace:
        _, found = await seen(namespace)
        await namespace.set_replicas(found, 3)
        site.run("set", "image", f"deployment/{WORKERS}", "worker=other")
        site.run("label", f"deployment/{WORKERS}", "a=b")
        version = int(site.get(f"deployment/{WORKERS}")["metadata"]["resourceVersion"])
        later = await until(
            lambda: (d := namespace.snapshot().deployments[WORKERS]).resource_version >= version and d
        )

    assert later.foreign_owner is None


async def test_autoscaler_on_the_deployment_is_found(site: Site, requests: Requests) -> None:
    """R14: an HPA is told by the Deployment that it targets."""
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": WORKERS},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                }
            ],
        },
    }
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        site.apply(hpa)
        await until(lambda: stage.namespace.snapshot().autoscalers == {WORKERS: "busy"})
        stage.broker.lengths["sums"] = 900
        await stage.tick()
        assert ready(site) == ("False", "OtherScaler")
        site.run("delete", "hpa", "busy")
        await until(lambda: stage.namespace.snapshot().autoscalers == {})


def ready(site: Site) -> tuple[str, str]:
    conditions = site.get("celery/sums")["status"]["conditions"]
    found = next(item for item in conditions if item["type"] == "Ready")
    return found["status"], found["reason"]


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


async def test_renamed_deployment_is_told_and_found_again(site: Site, requests: Requests) -> None:
    """R17: a Deployment that goes and comes is followed through the watch."""
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        site.run("delete", f"deployment/{WORKERS}", "--wait=true")
        await until(lambda: not stage.namespace.snapshot().deployments)
        await stage.tick()
        assert ready(site) == ("False", "DeploymentNotFound")
        site.apply(deployment())
        await seen(stage.namespace)
        await stage.tick()

    assert ready(site) == ("True", "Watching")


async def test_stored_object_that_is_invalid_is_told(site: Site, requests: Requests) -> None:
    """R15: what an older schema let in is reported with the words of the rule, and not followed."""
    async with staged(site, requests) as stage:
        found, _ = await seen(stage.namespace)
        stage.namespace._celeries.items["sums"] = replace(  # noqa: SLF001  # no schema of ours lets it in
            found, policy=None, invalid=contract.MIN_ABOVE_MAX.message
        )
        await stage.tick()

    assert ready(site) == ("False", "InvalidSpec")


async def test_watch_goes_on_where_the_server_ended_it(
    site: Site, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: streams that end each second lose nothing, and nothing is listed again."""
    monkeypatch.setattr(cluster_module, "WATCH_SECONDS", 1)
    async with followed(site, requests) as namespace:
        await seen(namespace)
        for replicas in (3, 4, 5):
            site.run("scale", f"deployment/{WORKERS}", f"--replicas={replicas}")
            await until(partial(exist, namespace, replicas))
            await asyncio.sleep(1)

    assert [request[:2] for request in requests].count(("list", "deployments")) == 1
    assert [request[:2] for request in requests].count(("watch", "deployments")) >= 3


def exist(namespace: Namespace, replicas: int) -> bool:
    return namespace.snapshot().deployments[WORKERS].replicas == replicas


async def test_stalled_watch_is_listed_again(
    site: Site, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: a stream that is silent for longer than it may be is given up, and what it missed is listed."""
    monkeypatch.setattr(cluster_module, "STALL_SECONDS", 0.5)
    async with followed(site, requests) as namespace:
        await seen(namespace)
        await until(lambda: [request[:2] for request in requests].count(("list", "celery")) >= 2)
        await until(lambda: namespace.snapshot().failure is None)


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


def without(verb: str, resource: str) -> list[dict[str, Any]]:
    """The Role's rules with one right less."""
    rules = []
    for rule in contract.RBAC_RULES:
        verbs = [word for word in rule["verbs"] if (word, rule["resources"][0]) != (verb, resource)]
        if verbs:
            rules.append({**rule, "verbs": verbs})
    return rules


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("patch", "deployments/scale"),
        ("watch", "deployments"),
        ("watch", "horizontalpodautoscalers"),
        ("watch", "celery"),
    ],
)
async def test_missing_right_is_named_in_the_condition(
    site: Site, requests: Requests, verb: str, resource: str
) -> None:
    """R12: whoever reads the object sees which verb on what the Role lacks."""
    site.grant(without(verb, resource))
    async with staged(site, requests) as stage:
        stage.broker.lengths["sums"] = 900

        async def told() -> bool:
            with contextlib.suppress(ClusterFailure):
                await stage.tick()
            status = site.get("celery/sums").get("status", {"conditions": []})
            return any(
                item["reason"] == "Forbidden" and f"{verb} {resource}" in item["message"]
                for item in status["conditions"]
            )

        deadline = time.monotonic() + 20
        while not await told():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)

    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("list", "celery"), ("list", "deployments"), ("list", "horizontalpodautoscalers")],
)
async def test_right_without_which_nothing_is_read_is_named_in_the_failure(
    site: Site, requests: Requests, verb: str, resource: str
) -> None:
    """R12: without a list there is nothing to report on; the log names the right, once in a while."""
    site.grant(without(verb, resource))
    async with followed(site, requests) as namespace:
        await until(lambda: any(code == "403" for _, _, code in requests))

        def message() -> str:
            try:
                namespace.snapshot()
            except ClusterFailure as failure:
                return failure.sentence if failure.kind is Kind.FORBIDDEN else ""
            return ""

        assert f"{verb} {resource}" in await until(message)
        await asyncio.sleep(1)

    assert len([request for request in requests if request[2] == "403"]) == 1


async def test_thousand_objects_are_listed_in_pages(site: Site, requests: Requests) -> None:
    """250 objects come in three pages, and all of them are there."""
    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [{**celery(), "metadata": {"name": f"p{number}"}} for number in range(249)],
        }
    )
    site.kubectl("-n", site.namespace, "create", "-f", "-", stdin=text)
    async with followed(site, requests) as namespace:
        await until(lambda: len(namespace.snapshot().celeries) == 250)

    assert [request[:2] for request in requests].count(("list", "celery")) == 3
