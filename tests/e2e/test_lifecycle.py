"""A stack of rendered manifests: deployed, flooded, changed, troubled and removed, with real workers."""

from __future__ import annotations

import base64
import json

import pytest

from demo import rendered
from tests.e2e.backends import BACKENDS
from tests.e2e.conftest import NewStack
from tests.e2e.ledger import Verdict, judge
from tests.e2e.stack import CALM_SECONDS, LEAST, MOST, POOL, Stack, every, left_of

pytestmark = pytest.mark.cluster

OUT_SECONDS = 45
EMPTY_SECONDS = 240
IN_SECONDS = CALM_SECONDS + 60
GRACE_SECONDS = 120
SLOW_TO_BOOT = json.dumps(
    {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}}
)
"""Some ten seconds, of which the API server tells after a second or two."""


def clean(tasks: int) -> Verdict:
    return Verdict(finished=tasks, lost=(), killed=(), repeated=(), unpublished=())


def follow_the_flood_back(stack: Stack) -> None:
    """The queue empties, and the fewest workers are left, not before the calm has passed."""
    stack.wait(lambda: stack.sight().waiting == 0, "an empty queue", EMPTY_SECONDS)
    # The queue was seen empty up to one refresh of the figures (5 s) after it was.
    took = stack.wait(lambda: stack.settled(LEAST), f"{LEAST} workers again", IN_SECONDS)
    assert took >= CALM_SECONDS - 10


@pytest.mark.parametrize(
    "backends",
    [
        "redis + redis",
        "quorum + postgresql",
        pytest.param("classic + postgresql", marks=pytest.mark.slow),
    ],
)
def test_a_flood_is_followed_out_and_in_and_every_task_finishes_once(
    new_stack: NewStack, backends: str
) -> None:
    """Nothing moves while nothing is to do; 3 x 2,000 tasks drive 2 -> 4 -> 2; the ledger is clean."""
    stack = new_stack(**BACKENDS[backends])
    stack.unmoved(lambda: versions(stack), 15)

    stack.flood(tasks=2000, batches=3, ms=5)
    stack.wait(lambda: replicas(stack) == (MOST, MOST), f"{MOST} workers", OUT_SECONDS)
    follow_the_flood_back(stack)

    assert judge(stack.published, stack.ledger()) == clean(6000)


def versions(stack: Stack) -> dict[str, str]:
    """Every object that a scaler could have written, and what of it would have changed."""
    items = stack.get("celery,deployment,pods")["items"]
    return {f"{i['kind']}/{i['metadata']['name']}": i["metadata"]["resourceVersion"] for i in items}


def replicas(stack: Stack) -> tuple[int, int]:
    sight = stack.sight()
    return sight.replicas, sight.ready


def test_new_limits_hold_without_a_restart(stack: Stack) -> None:
    """maxReplicas 3: every pod is the same one as before, the scaler has taken it up, a flood stops at 3."""
    pods = {**stack.worker_pods(), **stack.scaler_pods()}

    stack.apply(maxReplicas=3)

    stack.wait(lambda: observed(stack), "the scaler has seen the new limits", 20)
    stack.unmoved(lambda: {**stack.worker_pods(), **stack.scaler_pods()}, 6)
    assert {**stack.worker_pods(), **stack.scaler_pods()} == pods
    stack.flood(tasks=1000, batches=1, ms=50)
    stack.wait(lambda: replicas(stack) == (3, 3), "3 workers", OUT_SECONDS)
    assert pods.items() <= {**stack.worker_pods(), **stack.scaler_pods()}.items()
    stack.unmoved(lambda: replicas(stack), 8)


def observed(stack: Stack) -> bool:
    celery = stack.get("celery", POOL)
    return bool(celery["status"].get("observedGeneration") == celery["metadata"]["generation"])


def test_a_worker_told_to_stop_while_it_boots_goes_at_once(new_stack: NewStack) -> None:
    """A first process without a handler ignores SIGTERM: it would take tasks until it is killed."""
    stack = new_stack(
        flower="false", sampleApp="false", gracePeriodSeconds=GRACE_SECONDS, resources=SLOW_TO_BOOT
    )
    old = stack.worker_pods()
    stack.kubectl("delete", "pod", *old, "--wait=false")
    stack.wait(lambda: len(booting(stack) - old.keys()) == LEAST, "new workers that boot", 60)
    young = booting(stack) - old.keys()

    stack.kubectl("delete", "pod", *young, "--wait=false")

    stack.wait(lambda: not young & booting(stack), "the end of those that booted", GRACE_SECONDS / 2)


def booting(stack: Stack) -> set[str]:
    """The workers whose process runs, whatever it is at."""
    pods = stack.get("pods", f"--selector={rendered.WORKERS}")["items"]
    return {
        pod["metadata"]["name"]
        for pod in pods
        if any("running" in container["state"] for container in pod["status"].get("containerStatuses", ()))
    }


def test_a_scaler_killed_in_the_middle_of_a_flood_loses_nothing(stack: Stack) -> None:
    """Its successor goes on: no task lost, no step beyond the limits, back to 2 in the end."""
    stack.flood(tasks=2000, batches=3, ms=5)
    stack.wait(lambda: replicas(stack) == (MOST, MOST), f"{MOST} workers", OUT_SECONDS)
    (killed,) = stack.scaler_pods()

    stack.kubectl("delete", "pod", killed, "--grace-period=0", "--force")

    seen = set()
    for _ in every(1, 15):
        seen.add(stack.sight().replicas)
    assert seen == {MOST}
    assert killed not in stack.scaler_pods()
    follow_the_flood_back(stack)
    assert judge(stack.published, stack.ledger()) == clean(6000)


def test_a_broker_that_is_away_holds_the_replicas_and_is_named(stack: Stack) -> None:
    """Unknown is not zero: longer than the calm nothing shrinks; with the broker back the fleet goes on."""
    stack.flood(tasks=2000, batches=1, ms=200)
    stack.wait(lambda: replicas(stack) == (MOST, MOST), f"{MOST} workers", OUT_SECONDS)

    stack.kubectl("scale", "deployment/redis", "--replicas=0")
    stack.wait(
        lambda: stack.condition("Ready") == ("False", "BrokerUnreachable"),
        "Ready=False/BrokerUnreachable",
        60,
    )
    stack.unmoved(lambda: stack.sight().replicas, CALM_SECONDS + 10)
    assert stack.sight().waiting is None

    stack.kubectl("scale", "deployment/redis", "--replicas=1")
    stack.wait(lambda: stack.condition("Ready") == ("True", "Watching"), "Ready again", 60)
    # Without persistence the queue went with the broker: there is nothing left to do. Celery tries again
    # after 2, 4, 6 ... up to 32 s.
    stack.wait(lambda: stack.settled(LEAST), f"{LEAST} workers", 32 + IN_SECONDS)


def test_flower_asks_for_the_password_of_its_secret(stack: Stack) -> None:
    """401 without and with a wrong one; with the right one the page is there."""
    secret = stack.get("secret", "flower-auth")["data"]["basic-auth"]
    login = base64.b64decode(secret).decode()

    assert flower_answers(stack, "") == "401"
    assert flower_answers(stack, "admin:wrong") == "401"
    assert flower_answers(stack, login) == "200"


def flower_answers(stack: Stack, login: str) -> str:
    ask = (
        "import base64, http.client, sys\n"
        "login = sys.stdin.read()\n"
        "headers = {'Authorization': 'Basic ' + base64.b64encode(login.encode()).decode()} if login else {}\n"
        "c = http.client.HTTPConnection('flower', 5555, timeout=10)\n"
        "c.request('GET', '/workers', headers=headers)\n"
        "print(c.getresponse().status)\n"
    )
    words = ("exec", "--stdin", "deployment/sample-app", "--", "python3", "-c", ask)
    return stack.kubectl(*words, stdin=login).strip()


@pytest.mark.parametrize(
    "others", ["redis + redis", pytest.param("quorum + postgresql", marks=pytest.mark.slow)]
)
def test_two_stacks_share_a_cluster_and_leave_it_one_by_one(new_stack: NewStack, others: str) -> None:
    """Removing one changes nothing of the other; after both, the definition is all there is."""
    first, second = new_stack(), new_stack(**BACKENDS[others])
    pods = second.worker_pods()

    first.remove()

    assert second.worker_pods() == pods
    second.flood(tasks=1000, batches=1, ms=20)
    second.wait(lambda: replicas(second) == (MOST, MOST), f"{MOST} workers", OUT_SECONDS)
    second.remove()
    assert left_of(first, second) == {
        "customresourcedefinition.apiextensions.k8s.io/celery.celeryproject.org",
        # Kubernetes makes it for the definition, and takes it away with it.
        "apiservice.apiregistration.k8s.io/v1alpha1.celeryproject.org",
    }
