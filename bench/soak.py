"""The slow tier of the proof: `make soak` prints what became of tens of thousands of tasks, as a table.

Two hundred scale-ins and twenty destroys are the system's own doing, and must lose, end and repeat nothing.
What others do, a kernel that kills a worker or a Redis that restarts, is counted apart with its cause: it is
never claimed to be nothing. It asserts nothing; the exit code is 1 where the system's own rows are not clean.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from demo import cluster as clusters
from demo import images
from demo.cluster import Cluster
from demo.images import Built
from tests.e2e import scenes
from tests.e2e.course import followed
from tests.e2e.faults import QUEUE, processes_with
from tests.e2e.ledger import Verdict, judge, of_batch, published_in, running_at
from tests.e2e.scenes import BREATHING, MOST, Load, Outcome
from tests.e2e.stack import POOL, Stack
from tests.e2e.stacks import Stacks
from tests.e2e.ways import Rendered

SIDE_BY_SIDE: Final = 4
SCENE_SECONDS: Final = 3600
SHORT: Final = Load(low=4, high=24, shortest=0.01, longest=2)
SOAKING: Final[dict[str, Any]] = {**BREATHING, "concurrency": 2, "averageValue": 6}
STEADY: Final = Load(high=24, shortest=0.1, longest=10)
VISIBILITY_SECONDS: Final = 30
QUIET_SECONDS: Final = 900
"""The most that is waited for messages of killed workers: kombu looks for them every 100 s or so, and the
kubelet starts a container that dies often again after 5 min."""
FAULT_PAUSE_SECONDS: Final = 12

NewStack = Callable[..., AbstractContextManager[Stack]]
"""Takes settings; the stack is removed at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    what: str
    verdict: Verdict
    ours: bool
    """Whether the system itself causes it."""
    published: int

    def __str__(self) -> str:
        said = self.verdict
        counts = f"{len(said.lost):>6} {len(said.killed):>7} {len(said.repeated):>5}"
        return f"{self.what:<86} {self.published:>7} {counts}   {'must be 0' if self.ours else 'counted'}"


HEADING: Final = f"{'':<86} {'tasks':>7} {'LOST':>6} {'KILLED':>7} {'DUP':>5}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale-ins", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=30_000)
    parser.add_argument("--destroys", type=int, default=20)
    parser.add_argument("--faults", type=int, default=20, help="workers killed, of each kind")
    options = parser.parse_args(arguments)
    cluster = clusters.find_or_make()
    new_stack = partial(_new_stack, cluster, images.build_and_load(cluster, ""))
    rows: list[Row] = []
    print(HEADING, flush=True)
    for row in _rows(new_stack, options):
        print(row, flush=True)
        rows.append(row)
    return 0 if all(row.verdict.clean for row in rows if row.ours) else 1


@contextmanager
def _new_stack(cluster: Cluster, built: Built, **settings: Any) -> Iterator[Stack]:
    stacks = Stacks(cluster, built)
    try:
        yield stacks.make(**{**SOAKING, **settings})
    finally:
        stacks.remove()


def _rows(new_stack: NewStack, options: argparse.Namespace) -> Iterator[Row]:
    with ThreadPoolExecutor(SIDE_BY_SIDE + 1) as pool:
        # One after the other: the program that `Rendered` records keeps its state in Pulumi's globals.
        destroys = pool.submit(_destroys, new_stack, options.destroys)
        yield _scale_ins(new_stack, pool, options.scale_ins, options.tasks)
        faults = [
            pool.submit(_killed, new_stack, options.faults, late=late, child=child)
            for late in (False, True)
            for child in (False, True)
        ]
        faults.append(pool.submit(_redis_restarts, new_stack))
        yield from destroys.result()
        yield from (fault.result() for fault in faults)


def _scale_ins(new_stack: NewStack, pool: Executor, falls: int, tasks: int) -> Row:
    share, work = -(-falls // SIDE_BY_SIDE), -(-tasks // SIDE_BY_SIDE)

    def scene() -> Outcome:
        with new_stack() as stack:
            return scenes.breathe(
                stack, scale_ins=share, victims=0, tasks=work, seconds=SCENE_SECONDS, load=SHORT
            )

    running = [pool.submit(scene) for _ in range(SIDE_BY_SIDE)]
    for ended in as_completed(running):
        if failure := ended.exception():
            print(
                f"a scene has failed, the others go on to their end: {failure}", file=sys.stderr, flush=True
            )
    outcomes = [ended.result() for ended in running]
    seen = sum(len(outcome.falls) for outcome in outcomes)
    taken = sum(fall.by for outcome in outcomes for fall in outcome.falls)
    busy = [pod for outcome in outcomes for pod in outcome.busy]
    for pod in busy:
        print(pod, file=sys.stderr, flush=True)
    verdict = _together([outcome.verdict for outcome in outcomes])
    victims = sum(outcome.with_victim for outcome in outcomes)
    what = f"{seen} scale-ins of {taken} workers ({len(busy)} busy)"
    what += f"; the ReplicaSet's choice was busy {victims} times"
    return Row(what=what, verdict=verdict, ours=True, published=verdict.published)


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    def all_of(name: str) -> tuple[str, ...]:
        return tuple(task for verdict in verdicts for task in getattr(verdict, name))

    return Verdict(
        finished=sum(verdict.finished for verdict in verdicts),
        lost=all_of("lost"),
        killed=all_of("killed"),
        repeated=all_of("repeated"),
        unpublished=all_of("unpublished"),
    )


def _destroys(new_stack: NewStack, times: int) -> list[Row]:
    """Drain and discard in turn, each of a stack with 200 tasks outstanding."""
    verdicts: dict[str, list[Verdict]] = {"drain": [], "discard": []}
    with new_stack(createNamespace="false", gracePeriodSeconds=60) as stack:
        way = Rendered(stack)
        for number in range(times):
            if number:
                way.up()
                stack.wait_ready()
                # Else what a discard gave up is outstanding for ever, and little is published after it.
                stack.outside.restart(stack.settings["image"])
            policy = ("drain", "discard")[number % 2]
            verdicts[policy].append(_destroyed(way, policy, f"{policy}{number}"))
    drained, discarded = _together(verdicts["drain"]), _together(verdicts["discard"])
    given_up = len(discarded.lost)
    return [
        Row(
            what=f"{len(verdicts['drain'])} destroys by drain",
            verdict=drained,
            ours=True,
            published=drained.published,
        ),
        Row(
            # What was queued is given up, as the policy says; nothing that ran may end.
            what=f"{len(verdicts['discard'])} destroys by discard, {given_up} queued tasks given up",
            verdict=replace(discarded, lost=()),
            ours=True,
            published=discarded.published,
        ),
    ]


def _destroyed(way: Rendered, policy: str, batch: str) -> Verdict:
    stack = way.stack
    SHORT.order(stack, 200, batch)
    stack.wait(lambda: stack.outside.outstanding(QUEUE) >= 200, "200 tasks outstanding", 120)
    SHORT.order(stack, 0, batch)
    failure = way.destroy(onDestroy=policy, drainTimeoutSeconds=600)
    if failure:
        raise SystemExit(f"{batch}: {failure}")
    entries = of_batch(stack.ledger(), batch)
    return judge(published_in(entries), entries)


def _killed(new_stack: NewStack, times: int, *, late: bool, child: bool) -> Row:
    settings = {"acksLate": str(late).lower(), "visibilityTimeoutSeconds": VISIBILITY_SECONDS}

    def kill_one(stack: Stack) -> bool:
        busy = running_at(stack.ledger(), time.time() - 0.2).keys() & stack.worker_pods().keys()
        for pod in sorted(busy):
            if processes := processes_with("POD_NAME", pod):  # else its container starts again
                os.kill(processes[-1] if child else processes[0], signal.SIGKILL)
                return True
        return False

    def kill(stack: Stack) -> None:
        stack.wait(partial(kill_one, stack), "a busy worker to kill", 60)

    who = "a pool's process killed, as the kernel does for want of memory" if child else "a worker killed"
    acknowledged = "late" if late else "early"
    verdict = _under_faults(new_stack, settings, kill, times)
    what = f"{times} x {who}, {acknowledged} ack"
    return Row(what=what, verdict=verdict, ours=False, published=verdict.published)


def _redis_restarts(new_stack: NewStack, times: int = 3) -> Row:
    settings = {
        "redisPersistence": json.dumps({"enabled": True, "size": "1Gi"}),
        "acksLate": "true",
        "visibilityTimeoutSeconds": VISIBILITY_SECONDS,
    }

    def restart(stack: Stack) -> None:
        for pod in stack.kubectl("get", "pods", "--selector=app.kubernetes.io/name=redis", "-o=name").split():
            stack.kubectl("delete", pod, "--force", "--grace-period=0")
        stack.kubectl("rollout", "status", "deployment/redis", "--timeout=120s", seconds=130)

    verdict = _under_faults(new_stack, settings, restart, times)
    what = f"{times} x Redis killed and restarted, AOF each second, late ack"
    return Row(what=what, verdict=verdict, ours=False, published=verdict.published)


def _under_faults(
    new_stack: NewStack, settings: dict[str, Any], befall: Callable[[Stack], None], times: int
) -> Verdict:
    with new_stack(**settings, minReplicas=2) as stack:
        with followed(stack.cluster, stack.namespace, POOL) as course, _steady(stack):
            stack.wait(lambda: len(course.now.living) == MOST, f"{MOST} workers", 120)
            for _ in range(times):
                time.sleep(FAULT_PAUSE_SECONDS)
                befall(stack)
        stack.wait(partial(_nothing_left, stack), "nothing waits and nothing runs", QUIET_SECONDS)
        entries = stack.ledger()
    return judge(published_in(entries), entries)


def _nothing_left(stack: Stack) -> bool:
    """By the scaler's figures: by the ledger, a task that was killed runs until its pod ends."""
    status = stack.get("celery", POOL)["status"]
    return [status.get(figure) for figure in ("queued", "unacked", "active")] == [0, 0, 0]


@contextmanager
def _steady(stack: Stack) -> Iterator[None]:
    STEADY.order(stack, STEADY.high, "steady")
    yield
    STEADY.order(stack, 0, "steady")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
