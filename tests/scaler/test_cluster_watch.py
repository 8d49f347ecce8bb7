"""What the scaler sees of a real API server: changes, foreign hands, ends and stalls of streams."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from scaler.cluster import client as cluster_module
from scaler.cluster.namespace import Namespace
from tests.scaler.site import (
    WORKERS,
    Requests,
    Site,
    celery,
    deployment,
    followed,
    ready,
    seen,
    staged,
    until,
)

pytestmark = pytest.mark.cluster


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
