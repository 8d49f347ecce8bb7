"""The calls that the scaler makes equal the rights of its Role; each one missing is named."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scaler import contract
from scaler.cluster.namespace import Namespace
from scaler.cluster.objects import VICTIM_COST, ClusterFailure, Kind
from tests.scaler.site import (
    WORKERS,
    Requests,
    Site,
    followed,
    rights,
    seen,
    staged,
    until,
)

pytestmark = pytest.mark.cluster


async def test_calls_equal_the_rights_of_the_role(site: Site, requests: Requests) -> None:
    """A whole life needs every verb of the Role, and none that it lacks."""
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        stage.broker.lengths["sums"] = 400
        await stage.tick()
        pod = await until(lambda: stage.namespace.snapshot().pods.get(WORKERS, [None])[0])
        await stage.namespace.set_deletion_cost(pod, VICTIM_COST)
        await stage.namespace.evict(pod)
        await stage.lease.keep(time.time() + 6)
        await stage.lease.release(time.time())

    assert [request for request in requests if request[2] in ("403", "none")] == []
    assert {(verb, resource) for verb, resource, _ in requests} == rights()
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 4


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
        ("watch", "pods"),
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
    [
        ("list", "celery"),
        ("list", "deployments"),
        ("list", "horizontalpodautoscalers"),
        ("list", "pods"),
    ],
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


async def mark(namespace: Namespace) -> None:
    await namespace.set_deletion_cost(namespace.snapshot().pods[WORKERS][0], VICTIM_COST)


async def evict(namespace: Namespace) -> None:
    await namespace.evict(namespace.snapshot().pods[WORKERS][0])


async def renew(namespace: Namespace) -> None:
    seen = await namespace.read_lease() or await namespace.create_lease("me", time.time())
    await namespace.write_lease("me", seen, time.time())


async def take(namespace: Namespace) -> None:
    """Also where there is one: the right is asked for before that shows."""
    await namespace.create_lease("me", time.time())


async def tell(namespace: Namespace) -> None:
    celery = namespace.snapshot().celeries["sums"]
    words = {"reason": "Scaled", "action": "Scale", "note": "from 2 to 4"}
    await namespace.create_event(celery, warning=False, at=time.time(), **words)


async def report(namespace: Namespace) -> None:
    await namespace.write_status(namespace.snapshot().celeries["sums"], {"replicas": 2})


@pytest.mark.parametrize(
    ("verb", "resource", "deed"),
    [
        ("patch", "pods", mark),
        ("create", "pods/eviction", evict),
        ("get", "leases", renew),
        ("create", "leases", take),
        ("update", "leases", renew),
        ("create", "events", tell),
        ("patch", "celery/status", report),
    ],
)
async def test_call_without_its_right_is_a_failure_that_names_it(
    site: Site,
    requests: Requests,
    verb: str,
    resource: str,
    deed: Callable[[Namespace], Awaitable[None]],
) -> None:
    """R12: what `scaler.writer` and the lease make of it are tables over fakes."""
    async with followed(site, requests) as namespace:
        await until(lambda: namespace.snapshot().pods.get(WORKERS) and namespace.snapshot().celeries["sums"])
        site.grant(without(verb, resource))
        refused: ClusterFailure | None = None
        deadline = time.monotonic() + 20
        while refused is None:
            # The authorizer hears of a changed Role a moment later.
            assert time.monotonic() < deadline, "the call is still allowed"
            await asyncio.sleep(0.2)
            try:
                await deed(namespace)
            except ClusterFailure as failure:
                refused = failure if failure.kind is Kind.FORBIDDEN else None
            except LookupError:
                continue  # the pod that was evicted is not replaced in the snapshot yet

    assert refused.sentence.startswith(
        f"the scaler may not {verb} {resource} in namespace {site.namespace}: "
    )
