"""What a preview refuses, with its cure, because of what the cluster holds already.

It owns the rules that need both the declaration and the cluster: another cluster than the recorded one,
rights that lack, another stack in the same namespace, a CRD newer than this program's, a second writer
of replicas, and tasks that a change would leave behind: a pool that vanishes, a queue that moves, another
namespace or broker. It writes nothing, and it knows the cluster by
what it asks of it (`Live`).

What needs no cluster is checked in `infra.settings`; what the program itself can see before it declares
anything, in `infra.live.first_look`. Some is looked at in both: a lifecycle resource may be run without it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from infra.live.declaration import Declaration, OnDestroy
from infra.live.sightings import Autoscalers, Right
from scaler.contract import CRD_NAME, GROUP, PLURAL, Mode
from scaler.emptying import Sight, left_now

NEEDED_RIGHTS: Final = (
    Right("create", "apps", "deployments"),
    Right("create", "", "services"),
    Right("create", "", "secrets"),
    Right("create", "", "serviceaccounts"),
    Right("create", "policy", "poddisruptionbudgets"),
    Right("create", "rbac.authorization.k8s.io", "roles"),
    Right("create", "rbac.authorization.k8s.io", "rolebindings"),
    Right("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
    Right("create", GROUP, PLURAL),
)
"""Without these the first `up` of any stack would stop half-way. What only some stacks need is asked for in
`infra.live.first_look`, which knows their settings."""


class Live(Protocol):
    """The cluster, as far as a preview asks it."""

    description: str

    def read_denied(self, namespace: str, rights: Iterable[Right]) -> list[str]: ...
    def read_stack(self, namespace: str) -> str: ...
    def read_schema_revision(self) -> int | None: ...
    def read_autoscalers(self, namespace: str) -> Autoscalers: ...
    def read_emptying(self, namespace: str, names: Iterable[str]) -> Sight: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    key: str
    """The property to blame."""
    reason: str


def refusals(
    before: Declaration | None, wanted: Declaration, live: Live, unknown: frozenset[str] = frozenset()
) -> Iterator[Refusal]:
    """Every reason not to begin; `before` is None for a stack that has no lifecycle resource yet.

    `unknown` names the properties that only an `up` will know: the rules about them are left out.
    """
    if before is None:
        yield from _rights(wanted, live)
    yield from _other_stack(wanted, live)
    if "schema_revision" not in unknown:
        yield from _newer_schema(wanted, live)
    if not unknown & {"deployments", "shadow"}:
        scaled = set(wanted.deployments).difference(wanted.shadow)
        for reason in other_writers(wanted.namespace, scaled, live.read_autoscalers(wanted.namespace)):
            yield Refusal("deployments", reason)
    if before is not None and not unknown & {"celeries", "queues", "on_destroy"}:
        yield from _left_behind(before, wanted, live)


def other_cluster(recorded_uid: str, uid: str, description: str) -> str:
    """Why this cluster must not be touched; "" where it is the recorded one, or that cannot be known."""
    if not recorded_uid or not uid or recorded_uid == uid:
        return ""
    return (
        f"this is another cluster than the stack was deployed to: {description} has the UID {uid}, the "
        f"stack's state says {recorded_uid}. Going on would change or delete objects of that name that are "
        "not this stack's. Choose the right one (pulumi config set kubernetes:context NAME, or KUBECONFIG); "
        "to move to a new cluster, make a new stack; if the old cluster is gone for good: "
        "pulumi stack rm --force"
    )


def _rights(wanted: Declaration, live: Live) -> Iterator[Refusal]:
    denied = live.read_denied(wanted.namespace, NEEDED_RIGHTS)
    if denied:
        yield Refusal(
            "context",
            f"{live.description} does not let you {', '.join(denied)} in namespace {wanted.namespace}: `up` "
            "would stop half-way. Ask for these rights, or choose another context: "
            "pulumi config set kubernetes:context NAME",
        )


def _other_stack(wanted: Declaration, live: Live) -> Iterator[Refusal]:
    owner = live.read_stack(wanted.namespace)
    if owner and owner != wanted.stack:
        yield Refusal(
            "namespace",
            f"stack {owner} lives in namespace {wanted.namespace}: the two would overwrite each other's "
            "objects, and destroying one would take the other with it. Give this one its own: "
            "pulumi config set namespace NAME",
        )


def _newer_schema(wanted: Declaration, live: Live) -> Iterator[Refusal]:
    revision = live.read_schema_revision()
    if revision is not None and revision > wanted.schema_revision:
        yield Refusal(
            "schema_revision",
            f"the cluster's {CRD_NAME} has schema revision {revision}, this program knows "
            f"{wanted.schema_revision}: an older schema would drop newer fields from other stacks' objects. "
            "Update Celery Fleet, then `pulumi up`",
        )


def other_writers(namespace: str, deployments: Container[str], seen: Autoscalers) -> Iterator[str]:
    """Why the replicas of these Deployments are not the stack's alone. What could not be seen is a warning of
    the first look's."""
    for scaler in seen.found:
        if scaler.deployment in deployments:
            yield (
                f"{scaler.kind} {scaler.name} scales Deployment {scaler.deployment} too: two writers of "
                "replicas undo each other and kill running tasks. Remove it: kubectl delete "
                f"{scaler.kind.lower()} {scaler.name} -n {namespace}, or watch beside it: set the "
                f"pool's `mode` to {Mode.SHADOW}"
            )


def _left_behind(before: Declaration, wanted: Declaration, live: Live) -> Iterator[Refusal]:
    """Tasks that the new declaration would leave where nobody takes them, or takes them twice."""
    if wanted.on_destroy == OnDestroy.DISCARD:
        return
    changed = {name: change for name in before.celeries if (change := _change(name, before, wanted))}
    if not changed:
        return
    sight = live.read_emptying(before.namespace, changed)
    for name, change in sorted(changed.items()):
        if left := left_now(sight, name):
            yield Refusal(
                change.key,
                f"pool {name} {change.what} {left}. {change.cure} until it has drained (kubectl get cel "
                f"{name} -n {before.namespace}), or give its queued tasks up: "
                "pulumi config set onDestroy discard",
            )


@dataclass(frozen=True, slots=True)
class _Change:
    key: str
    what: str
    cure: str


def _change(pool: str, before: Declaration, wanted: Declaration) -> _Change | None:
    """The first reason why tasks of the pool would be left behind."""
    if wanted.namespace != before.namespace:
        return _Change(
            "namespace",
            f"would vanish from namespace {before.namespace}",
            f"Keep namespace {before.namespace}",
        )
    if pool not in wanted.celeries:
        return _Change("celeries", f"would vanish from namespace {before.namespace}", "Declare it")
    # A state that an older program made says nothing of the two below.
    for setting, was in sorted(before.broker.items()):
        is_now = wanted.broker.get(setting, was)
        if is_now != was:
            return _Change(
                "broker",
                f"would not find its messages again ({setting} changes from {was or 'none'} to "
                f"{is_now or 'none'})",
                "Keep it as it is",
            )
    ours = _queues(wanted, pool)
    moved = [queue for queue in _queues(before, pool) if queue not in ours]
    if pool not in wanted.queues or not moved:
        return None
    homes = {queue: name for name in wanted.queues for queue in _queues(wanted, name)}
    listed = ", ".join(
        f"queue {queue} " + (f"to pool {homes[queue]}" if queue in homes else "to nobody") for queue in moved
    )
    return _Change(
        "queues", f"would give {listed}", f"Keep {'it' if len(moved) == 1 else 'them'} in pool {pool}"
    )


def _queues(declared: Declaration, pool: str) -> list[str]:
    return [name for name in declared.queues.get(pool, "").split(",") if name]
