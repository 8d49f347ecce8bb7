"""Owns the ground of one load: a stack for each system, made at the same time, watched, and all removed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from bench.keda import backlog
from bench.keda.load import Watched
from bench.keda.systems import SYSTEMS, System, put_in_charge, retire
from demo.cluster import Cluster
from demo.commands import say
from demo.diagnosis import diagnosis
from demo.images import Built
from tests.e2e.course import followed
from tests.e2e.stack import POOL, Stack
from tests.e2e.stacks import Stacks

LOOK_SECONDS: Final = 0.5
"""At the pods, three requests each: four stacks at the tests' own pace would be 60 requests a second, on the
processors that are measured."""


@contextmanager
def side_by_side(cluster: Cluster, built: Built, load: Mapping[str, object]) -> Iterator[list[Watched]]:
    """In the order of SYSTEMS, each with its fewest workers idle and its system in charge."""
    made: list[Stack] = []
    stacks = Stacks(cluster, built, made.append)

    def deployed(system: System) -> Stack:
        settings: dict[str, Any] = {**load, **system.settings}
        stack = stacks.make(**settings)
        put_in_charge(system, stack)
        return stack

    say(f"Deploying a stack for each of the {len(SYSTEMS)} systems: about 2 min")
    with ThreadPoolExecutor(len(SYSTEMS)) as pool:
        deploys = [pool.submit(deployed, system) for system in SYSTEMS]
        try:
            ready = [deploy.result() for deploy in deploys]
            with ExitStack() as open_:
                yield [_watched(open_, system, stack) for system, stack in zip(SYSTEMS, ready, strict=True)]
        except Exception:
            wait(deploys)
            for stack in made:
                say(diagnosis(cluster, stack.namespace))
            raise
        finally:
            wait(deploys)
            _remove(pool, made)


def _watched(open_: ExitStack, system: System, stack: Stack) -> Watched:
    return Watched(
        system=system,
        stack=stack,
        course=open_.enter_context(
            followed(stack.cluster, stack.namespace, POOL, pause_seconds=LOOK_SECONDS)
        ),
        backlog=open_.enter_context(backlog.read(stack)),
    )


def _remove(pool: ThreadPoolExecutor, made: list[Stack]) -> None:
    """Each, whatever becomes of the others. One that stays spoils no figure: it is said, no more."""

    def remove(stack: Stack) -> None:
        try:
            # While the operator lives: it takes its finalizers off.
            retire(stack)
        finally:
            stack.remove()

    removals: dict[str, Future[None]] = {stack.namespace: pool.submit(remove, stack) for stack in made}
    wait(removals.values())
    for namespace, removal in removals.items():
        if trouble := removal.exception():
            print(f"{trouble}\nkubectl delete namespace {namespace}", file=sys.stderr)
