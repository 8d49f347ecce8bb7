"""The proof that a scale-in ends no task: a ledger outside the broker, under a load that breathes.

The grace period is so short that a worker chosen wrongly is killed with its task. The same load with the
handshake switched off has to show just that: it checks the check.
"""

from __future__ import annotations

import json
import time

import pytest

from demo.rendered import Manifest
from scaler.contract import SCALER_NAME, Env
from tests.e2e.conftest import NewStack
from tests.e2e.ledger import Verdict, entries_of, judge, published_in, running_at
from tests.e2e.load import Fall, Watcher, load
from tests.e2e.stack import Stack, with_ledger

pytestmark = pytest.mark.cluster

LOW, HIGH = 2, 9
"""Tasks outstanding: at two a worker, for one worker and for the four that there may be."""
SCALE_INS = 20
WITH_VICTIM = 15
BREATHING = {
    "minReplicas": "1",
    "maxReplicas": "4",
    "averageValue": "2",
    "prefetchMultiplier": "1",
    "gracePeriodSeconds": "3",
    "drainSeconds": "60",
    "pollSeconds": "1",
    "behavior": json.dumps({"scaleDown": {"stabilizationWindowSeconds": 2}}),
}


def breathe(stack: Stack, *, scale_ins: int, seconds: float) -> tuple[Verdict, list[Fall], int]:
    """Load and pause in turn until there were enough scale-ins; then wait until nothing is left.

    The verdict, the falls, and how many of them had a task on a pod that the ReplicaSet would have taken.
    """
    watcher = Watcher(stack)
    began = time.monotonic()
    with load(stack, "breath") as producer:
        while watcher.removed < scale_ins and time.monotonic() - began < seconds:
            producer.order(HIGH)
            grown = time.monotonic() + 30
            while len(stack.worker_pods()) < 4 and time.monotonic() < grown:
                watcher.look(time.time())
            producer.order(LOW)
            rest = time.monotonic() + 45
            while len(stack.worker_pods()) > 1 and time.monotonic() < rest:
                watcher.look(time.time())
        producer.order(0)
        stack.wait(lambda: producer.outstanding() == 0, "no task left", 90)
    entries = entries_of(stack.ledger())
    with_victim = sum(fall.would_have_killed(running_at(entries, fall.at - 0.5)) for fall in watcher.falls)
    return judge(published_in(entries), entries), watcher.falls, with_victim


def test_no_scale_in_ends_a_task(new_stack: NewStack, capsys: pytest.CaptureFixture[str]) -> None:
    stack = new_stack()
    stack.apply(**BREATHING)

    verdict, falls, with_victim = breathe(stack, scale_ins=SCALE_INS, seconds=600)

    removed = sum(fall.by for fall in falls)
    with capsys.disabled():
        print(f"\n{removed} workers removed in {len(falls)} steps, {with_victim} with a victim: {verdict}")
    assert removed >= SCALE_INS
    assert with_victim >= min(WITH_VICTIM, len(falls))
    assert verdict.clean, verdict


def test_without_the_handshake_the_ledger_shows_killed_tasks(
    new_stack: NewStack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = new_stack()
    stack.change = without_handshake
    stack.apply(**BREATHING)

    verdict, falls, _ = breathe(stack, scale_ins=6, seconds=240)

    with capsys.disabled():
        print(f"\nhandshake off, {sum(fall.by for fall in falls)} workers removed: {verdict}")
    assert falls
    assert verdict.lost or verdict.killed or verdict.repeated


def without_handshake(manifest: Manifest) -> Manifest:
    if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == SCALER_NAME:
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["env"].append({"name": Env.HANDSHAKE.value, "value": "off"})
    return with_ledger(manifest)
