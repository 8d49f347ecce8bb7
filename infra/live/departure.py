"""What `pulumi destroy` does about tasks before anything is removed: `drain`, `refuse` or `discard`.

It owns the policies' meaning, the wait, and what is said. The lifecycle resource is the first to go, so
the workers, the scaler and the broker are all there while it waits, and none of them goes if it fails.
Whether the fleet is empty is judged in `scaler.emptying`; `infra.live.cluster` reads.

`drain` stops the stack's own producers and waits; where it fails they get their replicas back, and where it
was killed in between, the next `up` or the next drain that fails gives them one (`bring_back`). `refuse`
writes nothing. `discard` asks nothing: the workers' Deployments go before the broker, each with its grace
period, so running tasks end in peace. The table of what each does when something is gone already is in
`docs/decisions/0012-destroy.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra.live.declaration import Declaration, OnDestroy
from scaler.emptying import REFUSE, Empty, Memory, Rules, Unknown, Waiting, WorkLeft, drain_rules, judge

if TYPE_CHECKING:
    from infra.live.cluster import Cluster

POLL_SECONDS: Final = 1
PROGRESS_SECONDS: Final = 10
LOST_SECONDS: Final = 30
"""How long the API server may be away in the middle of a wait."""

PRODUCER_REPLICAS: Final = 1
"""What the program declares for beat and the sample app (`infra.components.pod_baseline.DeploymentArgs`)."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, and its passing."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class NotEmpty(Exception):  # noqa: N818  # the fact, not the failure
    """Why nothing was removed, and what to do."""


def policy_of(text: str) -> OnDestroy:
    """At destroy no program has checked the stack's configuration. Raises NotEmpty."""
    try:
        return OnDestroy(text)
    except ValueError:
        raise NotEmpty(
            f"onDestroy must be one of {', '.join(OnDestroy)}, not {text!r}; nothing was removed. Correct "
            f"it: pulumi config set onDestroy {OnDestroy.DRAIN}"
        ) from None


def number_of(text: str, otherwise: int) -> int:
    """A setting's value as `configure` has it."""
    return int(text) if text.isdigit() else otherwise


def depart(
    policy: OnDestroy,
    declared: Declaration,
    cluster: Cluster,
    seconds: int,
    say: Say,
    clock: Clock = Clock(),
) -> None:
    """Return when the stack may go. Raises NotEmpty, or what `infra.live.cluster` raises."""
    if policy is OnDestroy.DISCARD:
        say("onDestroy discard: running tasks have their grace period, queued ones go with the broker")
    elif not cluster.has_namespace(declared.namespace):
        say(f"namespace {declared.namespace} is gone, with its broker: there is nothing to wait for")
    elif policy is OnDestroy.REFUSE:
        _wait(policy, declared, cluster, REFUSE, say, clock)
    else:
        with _producers_stopped(declared, cluster, say):
            _wait(policy, declared, cluster, drain_rules(seconds), say, clock)


def bring_back(declared: Declaration, cluster: Cluster, say: Say) -> None:
    """A drain that was killed leaves producers at 0, and no property of theirs says that they should not be:
    beat would send nothing for ever. Raises what `infra.live.cluster` raises."""
    for name in cluster.read_stopped(declared.namespace, declared.producers):
        cluster.scale(declared.namespace, name, PRODUCER_REPLICAS)
        say(f"Deployment {name}, which publishes tasks, stood at 0: it is scaled to {PRODUCER_REPLICAS}")


def given_up(policy: OnDestroy, lines: Iterable[str]) -> str:
    """What a person reads who wanted the stack gone."""
    listed = "\n".join(f"- {line}" for line in lines)
    longer = (
        "To wait longer: pulumi config set drainTimeoutSeconds SECONDS. "
        if policy is OnDestroy.DRAIN
        else "To finish them first: pulumi config set onDestroy drain. "
    )
    return (
        f"onDestroy {policy}: nothing was removed.\n{listed}\n{longer}"
        "To give up what is queued (running tasks still finish): pulumi config set onDestroy discard. "
        "Then `pulumi destroy` again"
    )


def _wait(
    policy: OnDestroy, declared: Declaration, cluster: Cluster, rules: Rules, say: Say, clock: Clock
) -> None:
    from infra.live.cluster import ClusterUnavailable

    memory = Memory(started=clock.now())
    last_read = last_said = memory.started
    while True:
        try:
            sight = cluster.read_emptying(declared.namespace, declared.celeries)
        except ClusterUnavailable:
            if clock.now() - last_read >= LOST_SECONDS:
                raise
            clock.sleep(POLL_SECONDS)
            continue
        now = last_read = clock.now()
        verdict, memory = judge(sight, memory, rules, now)
        match verdict:
            case Empty():
                say(f"onDestroy {policy}: no task is left after {now - memory.started:.0f} s")
                return
            case WorkLeft(lines) | Unknown(lines):
                waited = f"after {now - memory.started:.0f} s of at most {rules.work:.0f} s"
                raise NotEmpty(given_up(policy, [*lines, *([waited] if rules.work else [])]))
            case Waiting(sentence) if now - last_said >= PROGRESS_SECONDS:
                say(f"onDestroy {policy}: {now - memory.started:.0f} s: {sentence}")
                last_said = now
        clock.sleep(POLL_SECONDS)


@contextmanager
def _producers_stopped(declared: Declaration, cluster: Cluster, say: Say) -> Iterator[None]:
    from infra.live.cluster import ClusterUnavailable, NotAllowed

    stopped: dict[str, int] = {}
    try:
        for name in declared.producers:
            try:
                before = cluster.scale(declared.namespace, name, 0)
            except NotAllowed as error:
                say(f"Deployment {name} goes on publishing while the queues empty: {error}")
                continue
            if before is None:
                continue
            # 0 is what a drain that was killed has left, not what somebody chose.
            stopped[name] = max(before, PRODUCER_REPLICAS)
            say(f"Deployment {name}, which publishes tasks, {'is scaled to' if before else 'stands at'} 0")
        yield
    except BaseException:
        # Also on Ctrl-C. What is not restored is said, and one command mends it.
        for name, replicas in stopped.items():
            try:
                cluster.scale(declared.namespace, name, replicas)
            except (ClusterUnavailable, NotAllowed):
                again = f"kubectl scale deployment {name} --replicas={replicas} -n {declared.namespace}"
                say(f"Deployment {name} stays at 0: {again}")
        raise
