"""Brokers that the stack does not run: over TLS with their own users, behind Sentinels, and out of reach."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from demo.cluster import Cluster
from demo.images import Built
from infra.components import external
from tests.conftest import FOUND
from tests.e2e.conftest import NewStack
from tests.e2e.elsewhere import MASTER_NAME, PASSWORD, REPLICA, USER, Elsewhere
from tests.e2e.faults import QUEUE
from tests.e2e.ledger import judge, of_batch, published_in
from tests.e2e.scenes import WITHOUT_PAGES
from tests.e2e.stack import LEAST, MOST, Stack
from tests.e2e.stacks import Stacks

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

REASON_SECONDS = 60
TRUST = f"ssl_cert_reqs=required&ssl_ca_certs={external.CA_FILE}"


@pytest.fixture
def elsewhere(cluster: Cluster, built: Built) -> Iterator[Elsewhere]:
    made = Elsewhere(cluster, f"elsewhere-{uuid.uuid4().hex[:8]}", built.servers)
    try:
        made.make()
        yield made
    finally:
        made.remove()


def connected(url: str, authority: str = "", management_url: str = "") -> Callable[[Stack], None]:
    """Deploys a stack after what its user makes for it: the Secret, and the authorities."""

    def deploy(stack: Stack) -> None:
        texts = {"url": url, **({"management-url": management_url} if management_url else {})}
        secret = {"kind": "Secret", "metadata": {"name": "celery-broker"}, "stringData": texts}
        objects: list[dict[str, Any]] = [secret]
        if authority:
            data = {"ca.crt": authority}
            objects.append({"kind": "ConfigMap", "metadata": {"name": "our-ca"}, "data": data})
        for found in objects:
            stack.kubectl("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", **found}))
        stack.apply()

    return deploy


def settings_for(url: str, *, trusted: bool = True) -> dict[str, object]:
    return {
        "broker": "external",
        "brokerUrl": external.without_credentials(url),
        "resultBackend": "none",
        "createNamespace": "false",
        **({"brokerCa": "configmap/our-ca"} if trusted else {}),
    }


@pytest.mark.parametrize("kind", ["rediss", "amqps"])
def test_tasks_run_and_workers_scale_over_tls(new_stack: NewStack, elsewhere: Elsewhere, kind: str) -> None:
    """With an authority of one's own, in workers, producers and scaler."""
    plain = elsewhere.run_redis() if kind == "rediss" else elsewhere.run_rabbitmq()
    url = f"{plain}?{TRUST}" if kind == "rediss" else plain
    management = elsewhere.management_url() if kind == "amqps" else ""
    stack = new_stack(deploy=connected(url, elsewhere.authority(), management), **settings_for(plain))

    stack.flood(tasks=1000, batches=1, ms=20)
    stack.wait(lambda: stack.sight().replicas == MOST, f"{MOST} workers", 60)
    stack.wait(lambda: stack.settled(LEAST), f"{LEAST} workers again", 240)

    assert judge(stack.published, stack.ledger()).clean


@pytest.mark.parametrize(
    ("change", "trusted", "reason"),
    [
        pytest.param(lambda url: url, False, "BrokerNotTrusted", id="an authority that nobody named"),
        pytest.param(
            lambda url: url.replace(PASSWORD, "wrong-password-16"),
            True,
            "BrokerRefused",
            id="a wrong password",
        ),
        pytest.param(
            lambda url: url.replace("/celery", "/nowhere"),
            True,
            "VhostNotFound",
            id="a vhost that is not there",
        ),
        pytest.param(
            lambda url: url.replace(":5671", ":5679"), True, "BrokerUnreachable", id="nobody at this port"
        ),
    ],
)
def test_why_a_broker_cannot_be_used_is_said_within_a_minute(
    cluster: Cluster,
    built: Built,
    elsewhere: Elsewhere,
    change: Callable[[str], str],
    trusted: bool,
    reason: str,
) -> None:
    """And the password is in none of it."""
    plain = change(elsewhere.run_rabbitmq())
    stacks = Stacks(cluster, built)
    try:
        deploy = connected(plain, elsewhere.authority() if trusted else "")
        stack = stacks.deploy(deploy=deploy, **{**settings_for(plain, trusted=trusted), **WITHOUT_PAGES})
        stack.wait(lambda: stack.condition("Ready")[1] == reason, reason, REASON_SECONDS)
        said = json.dumps(stack.get("celery,events")["items"])
        assert PASSWORD not in said
        assert f"{USER}:" not in said
    finally:
        stacks.remove()


def test_a_failover_is_followed_and_what_it_loses_is_counted(
    new_stack: NewStack, elsewhere: Elsewhere, record_property: Callable[[str, object], None]
) -> None:
    """Replication is asynchronous, so Redis may lose what it has just taken: the loss is printed, and judged
    only by this, that the fleet goes on and every task of afterwards finishes."""
    url = elsewhere.run_sentinels()
    options = {"master_name": MASTER_NAME, "visibility_timeout": 60}
    stack = new_stack(
        deploy=connected(url),
        outside_options=options,
        **{**settings_for(url, trusted=False), **WITHOUT_PAGES},
        brokerTransportOptions=json.dumps(options),
        averageValue=20,
    )
    stack.outside.order(QUEUE, 200, batch="before", shortest=0.2, longest=2)
    stack.wait(lambda: stack.sight().replicas == MOST, f"{MOST} workers", 60)

    elsewhere.kill_master()
    replica = elsewhere.address(REPLICA)
    failed_over = stack.wait(lambda: elsewhere.master() == replica, "a new master", 60)
    stack.wait(lambda: stack.condition("Ready") == ("True", "Watching"), "the scaler follows", 60)
    # More than may be lost: the producer counts those as outstanding.
    stack.outside.order(QUEUE, 250, batch="after", shortest=0.2, longest=1)
    stack.wait(lambda: len(published_in(stack.ledger(), "after")) >= 100, "tasks of afterwards", 240)
    stack.outside.order(QUEUE, 0, batch="after", shortest=0.2, longest=1)
    stack.wait(lambda: stack.settled(LEAST), f"{LEAST} workers again", 300)

    entries = stack.ledger()
    before, after = (
        judge(published_in(entries, batch), of_batch(entries, batch)) for batch in ("before", "after")
    )
    record_property(FOUND, f"Sentinel failover after {failed_over:.0f} s: before {before}; after {after}")
    assert not after.lost
