"""The calls that the scaler makes equal the rights of its Role; each one missing is named."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from scaler import contract
from scaler.cluster.objects import ClusterFailure, Kind
from scaler.pool.drain import VICTIM_COST
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
