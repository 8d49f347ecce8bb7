"""What the program reads of the cluster before it declares anything, and what makes it stop there.

It owns the refusals that must come before the first write, each with its cure: no cluster, a context
that is not there, rights that lack, a namespace that is another stack's or that somebody else made, a
Secret that should be there and is not, another autoscaler of a pool. It writes nothing; the requests are
in `infra.live.cluster`.

`infra.lifecycle` asks more at the preview's end, when the declaration is complete (`infra.live.preflight`).
Rendered manifests and tests skip all this by handing `deploy` a `FirstLook` of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import pulumi

from infra.live import given
from infra.live.cluster import ClusterUnavailable, NotAllowed
from infra.live.given import Given
from infra.live.kubeconfig import NoCluster
from infra.live.preflight import NEEDED_RIGHTS, other_writers
from infra.live.sightings import Autoscalers, Right
from infra.settings import Settings
from infra.settings.backend_rules import images_needed
from infra.settings.delivery import keeps_data
from scaler import contract
from scaler.contract import RBAC_RULES, Mode

STACK_LABEL = f"{contract.GROUP}/stack"
"""On the namespace that a stack made, with the stack's name."""


MAY_GRANT: Final[tuple[Right, ...]] = (
    Right("escalate", "rbac.authorization.k8s.io", "roles"),
    Right("bind", "rbac.authorization.k8s.io", "roles"),
)
"""With these two a Role and its binding may grant what their maker does not hold (kubernetes.io, "Using RBAC
Authorization", privilege escalation prevention)."""
SCALERS_RIGHTS: Final[tuple[Right, ...]] = tuple(
    Right(verb, group, resource, name)
    for rule in RBAC_RULES
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
    for name in rule.get("resourceNames", ("",))
)


class CannotStart(pulumi.RunError):
    """Why nothing was changed. A RunError: Pulumi prints its text, no traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """The cluster as it was found."""

    cluster_uid: str = ""
    """"" where it is not known."""
    schema_revision: int | None = None
    """Of the live CRD; None where there is none."""
    broker_keys: frozenset[str] = frozenset()
    """Of the Secret that `existingSecret` names; none where there is none or it may not be looked at."""
    broker_scheme: str = ""
    """Of the URL in it."""
    warnings: tuple[str, ...] = ()
    """What could not be looked at."""


class Live(Protocol):
    """The cluster, as far as the first look asks it."""

    description: str

    def uid(self) -> str: ...
    def read_schema_revision(self) -> int | None: ...
    def read_stack(self, namespace: str) -> str: ...
    def read_namespace_labels(self, name: str) -> Mapping[str, str] | None: ...
    def read_keys(self, kind: str, namespace: str, name: str) -> frozenset[str] | None: ...
    def read_scheme(self, namespace: str, name: str, key: str) -> str: ...
    def read_denied(self, namespace: str, rights: Iterable[Right]) -> list[str]: ...


def look(settings: Settings) -> FirstLook:
    """Read the cluster that the settings name. Raises CannotStart."""
    try:
        with Given(settings.context, settings.kubeconfig) as live:
            writers = live.read_autoscalers(settings.namespace)
            refusals = list(refusals_of(settings, live, writers))
            if not refusals:
                return seen_by(settings, live, writers)
    except (NoCluster, ClusterUnavailable, NotAllowed) as why:
        refusals = [f"{why}."]
    listed = "\n".join(f"  {refusal}" for refusal in refusals)
    raise CannotStart(f"stack {settings.stack} cannot be deployed, nothing was changed.\n{listed}")


def seen_by(settings: Settings, live: Live, writers: Autoscalers) -> FirstLook:
    keys, scheme = given.broker_of(settings, live)
    return FirstLook(
        cluster_uid=live.uid(),
        schema_revision=live.read_schema_revision(),
        broker_keys=keys,
        broker_scheme=scheme,
        warnings=tuple(warnings_of(settings, writers)),
    )


def refusals_of(settings: Settings, live: Live, writers: Autoscalers) -> Iterator[str]:
    """Every reason not to begin, with its cure."""
    namespace = settings.namespace
    labels = live.read_namespace_labels(namespace)
    owner = live.read_stack(namespace) if labels is not None else ""
    maker = (labels or {}).get(STACK_LABEL, "")
    other = next((name for name in (owner, maker) if name and name != settings.stack), "")
    if other:
        yield (
            f"namespace {namespace} is stack {other}'s: two stacks in one namespace would overwrite each "
            "other's objects, and destroying one would take the other with it. Choose another: "
            "pulumi config set namespace NAME"
        )
    elif labels is None and not settings.create_namespace:
        yield (
            f"namespace {namespace} is not there, and createNamespace is false. "
            f"Make it (kubectl create namespace {namespace}), or: pulumi config set createNamespace true"
        )
    elif labels is not None and settings.create_namespace and not maker:
        yield (
            f"namespace {namespace} is there and no stack made it: creating it would fail, and destroying "
            "the stack would remove what else is in it. Use it as it is: "
            "pulumi config set createNamespace false, or choose another: pulumi config set namespace NAME"
        )
    if not owner:
        yield from _rights(settings, live)
    yield from given.lacking(settings, live)
    yield from other_writers(namespace, _scaled(settings), writers)


def warnings_of(settings: Settings, writers: Autoscalers) -> Iterator[str]:
    """What may be wrong and cannot be seen, once for both looks at the cluster. A kind that the cluster does
    not have is forbidden as well to whoever may not list it: the API server asks for the right first."""
    if writers.unseen and _scaled(settings):
        kinds = " and ".join(f"{kind}s" for kind in writers.unseen)
        yield (
            f"you may not list {kinds} in namespace {settings.namespace}, so nobody checked that none scales "
            "the stack's workers too (two writers of replicas undo each other and kill running tasks); where "
            "there is none, all is well"
        )


def _scaled(settings: Settings) -> set[str]:
    return {contract.worker_deployment_name(p.name) for p in settings.pools if p.mode != Mode.SHADOW}


def _rights(settings: Settings, live: Live) -> Iterator[str]:
    """Once the stack is there, a right that lacks shows with the one object that needs it."""
    where = f"{live.description} does not let you"
    cure = "Ask for these rights, or choose another context: pulumi config set kubernetes:context NAME"
    if denied := live.read_denied(settings.namespace, needed_rights(settings)):
        yield f"{where} {', '.join(denied)} in namespace {settings.namespace}. {cure}"
    if live.read_denied(settings.namespace, MAY_GRANT) and (
        lacking := live.read_denied(settings.namespace, SCALERS_RIGHTS)
    ):
        yield (
            f"{where} {', '.join(lacking)} in namespace {settings.namespace}, and who makes the scaler's "
            f"Role must hold what it grants. {cure}"
        )


def needed_rights(settings: Settings) -> list[Right]:
    """To create one of each kind that the stack's program declares."""
    claims = keeps_data(settings) or (settings.beat and settings.beat_schedule_persistence["enabled"])
    return [
        *NEEDED_RIGHTS,
        *([Right("create", "", "namespaces")] if settings.create_namespace else []),
        *([Right("create", "", "persistentvolumeclaims")] if claims else []),
        *([Right("create", "", "configmaps")] if images_needed(settings) else []),
        *([Right("create", "networking.k8s.io", "networkpolicies")] if settings.network_policies else []),
    ]
