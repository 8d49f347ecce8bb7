"""Owns which scenes are played, and that they are played side by side: they mostly wait.

A scene's stack goes when the scene has ended well; of one that failed it stays, for the diagnosis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from demo.cluster import Cluster
from demo.images import Built
from tests.e2e import faults, scenes
from tests.e2e.scenes import BREATHING, Outcome
from tests.e2e.stack import Change, Stack, with_ledger
from tests.e2e.stacks import Stacks

SCALE_INS, WITH_VICTIM = 20, 15
KILLS = 10
ROLLS = 3
SCENE_SECONDS = 900

Act = Callable[[Stack], Outcome]
SCENES: Final[dict[str, tuple[Act, Change, dict[str, Any]]]] = {
    "scale-in": (
        lambda stack: scenes.breathe(stack, scale_ins=SCALE_INS, victims=WITH_VICTIM, seconds=SCENE_SECONDS),
        with_ledger,
        {},
    ),
    "killed scaler": (
        lambda stack: scenes.killed(stack, kills=KILLS, seconds=SCENE_SECONDS),
        with_ledger,
        {},
    ),
    "roll-out": (lambda stack: scenes.rolled(stack, rolls=ROLLS), with_ledger, {"gracePeriodSeconds": 60}),
    "zero": (
        lambda stack: scenes.woken(stack, ahead=60),
        with_ledger,
        {"minReplicas": 0},
    ),
    "deaf worker": (scenes.deafened, with_ledger, {"minReplicas": 2, "maxReplicas": 2}),
    "removed pool": (scenes.departed, with_ledger, {"pools": json.dumps(scenes.TWO_POOLS)}),
    "no handshake": (
        lambda stack: scenes.breathe(stack, scale_ins=3, victims=2, seconds=300, clean=False),
        faults.without_handshake,
        {},
    ),
}


@dataclass(slots=True)
class Play:
    """A scene that runs, or has ended."""

    outcome: Future[Outcome]
    made: list[Stack]


@contextmanager
def played(cluster: Cluster, built: Built, backends: Mapping[str, str]) -> Iterator[dict[str, Play]]:
    """Each scene on a stack with these backends."""
    every: list[Stacks] = []
    plays: dict[str, Play] = {}
    with ThreadPoolExecutor(len(SCENES)) as pool:
        for name, (act, change, settings) in SCENES.items():
            made: list[Stack] = []
            stacks = Stacks(cluster, built, made.append)
            every.append(stacks)
            plays[name] = Play(pool.submit(_play, stacks, act, change, {**settings, **backends}), made)
        yield plays
    for stacks in every:
        stacks.remove()


def _play(stacks: Stacks, act: Act, change: Change, settings: dict[str, Any]) -> Outcome:
    outcome = act(stacks.make(change, **{**BREATHING, **settings}))
    stacks.remove()
    return outcome
