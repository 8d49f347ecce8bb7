"""The proof that a scale-in ends no task: a ledger outside the broker, under a load that breathes.

The grace period is so short that a worker chosen wrongly is killed with its task. The same load with the
handshake switched off has to show just that: it checks the check.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Breath:
    falls: list[Fall]
    with_victim: int
    """Of the falls: those with a task on a pod that the ReplicaSet would have taken."""
    verdict: Verdict

    def __str__(self) -> str:
        removed = sum(fall.by for fall in self.falls)
        falls = f"{len(self.falls)} scale-ins of {removed} workers, {self.with_victim} with a victim"
        return f"{falls}: {self.verdict}"


def breathe(stack: Stack, *, scale_ins: int, with_victim: int, seconds: float) -> Breath:
    """Load and pause in turn until there were enough scale-ins; then wait until nothing is left."""
    watcher = Watcher(stack)
    began = time.monotonic()
    with load(stack, "breath") as producer:
        while time.monotonic() - began < seconds and (
            len(watcher.falls) < scale_ins or victims(watcher.falls, stack) < with_victim
        ):
            producer.order(HIGH)
            grown = time.monotonic() + 30
            while len(stack.worker_pods()) < 4 and time.monotonic() < grown:
                watcher.look(time.time())
            producer.order(LOW)
            rest = time.monotonic() + 45
            while len(stack.worker_pods()) > 1 and time.monotonic() < rest:
                watcher.look(time.time())
        producer.order(0)
        stack.wait(lambda: not stack.sight().waiting and not running(stack), "no task left", 90)
    entries = entries_of(stack.ledger())
    return Breath(
        falls=watcher.falls,
        with_victim=victims(watcher.falls, stack),
        verdict=judge(published_in(entries), entries),
    )


def victims(falls: list[Fall], stack: Stack) -> int:
    entries = entries_of(stack.ledger())
    return sum(fall.would_have_killed(running_at(entries, fall.at - 0.5)) for fall in falls)


def running(stack: Stack) -> bool:
    """Whether a pod that still lives runs a task."""
    return bool(running_at(entries_of(stack.ledger()), time.time()).keys() & stack.worker_pods().keys())


def test_no_scale_in_ends_a_task(new_stack: NewStack, capsys: pytest.CaptureFixture[str]) -> None:
    stack = new_stack()
    stack.apply(**BREATHING)

    breath = breathe(stack, scale_ins=SCALE_INS, with_victim=WITH_VICTIM, seconds=600)

    with capsys.disabled():
        print(f"\n{breath}")
    assert len(breath.falls) >= SCALE_INS
    assert breath.with_victim >= WITH_VICTIM
    assert breath.verdict.clean, breath.verdict


def test_without_the_handshake_the_ledger_shows_killed_tasks(
    new_stack: NewStack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = new_stack()
    stack.change = without_handshake
    stack.apply(**BREATHING)

    breath = breathe(stack, scale_ins=3, with_victim=2, seconds=240)

    with capsys.disabled():
        print(f"\nhandshake off: {breath}")
    assert breath.falls
    assert breath.verdict.lost or breath.verdict.killed or breath.verdict.repeated


def without_handshake(manifest: Manifest) -> Manifest:
    if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == SCALER_NAME:
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["env"].append({"name": Env.HANDSHAKE.value, "value": "off"})
    return with_ledger(manifest)
