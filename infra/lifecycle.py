"""The last resource of a stack: `up` returns once the fleet works, or fails with the reason.

It owns the order of things: at preview, what the cluster forbids (`infra.live.preflight`); at create and
update, the wait (`infra.live.readiness` decides, `infra.live.cluster` reads); at destroy, which it reaches
first as it depends on everything else, its policy (`infra.live.departure`). It never replaces, and touches no
other cluster than the one it was created on.

A dynamic provider is pickled by reference and runs in a process of its own, at `destroy` without the
program: this module's name, its classes' names and its properties' names are stack state and are never
renamed without a migration. Importing it loads the standard library, pulumi and this package's pure
modules; clients are loaded inside the methods. It holds no credentials: they stay in the kubeconfig.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from infra.live.declaration import (
    DRAIN_TIMEOUT_SECONDS,
    Declaration,
    OnDestroy,
    declaration_of,
    is_unknown,
    known,
)
from infra.live.departure import NotEmpty, bring_back, depart, given_up, number_of, policy_of
from infra.live.preflight import other_cluster, refusals
from infra.live.readiness import Done, Failed, Memory, Waiting, assess
from infra.live.stack_file import value_of
from infra.live.trouble import Limits

if TYPE_CHECKING:
    from infra.live.cluster import Cluster

__all__ = ["FleetLifecycle", "FleetLifecycleArgs", "LifecycleFailed"]

POLL_SECONDS: Final = 1
PROGRESS_SECONDS: Final = 10
WHERE: Final = frozenset({"namespace", "context", "kubeconfig_path", "stack"})
"""Without these there is no place to look at."""
LOST_SECONDS: Final = 30
"""How long the API server may be away during a wait: a control plane's own restart takes that long."""


class LifecycleFailed(Exception):  # noqa: N818  # the fact, not the failure
    """What a person reads under `error:`."""


class Forbidden(LifecycleFailed):
    """The cluster answers, and this user may not ask or do what is needed."""


class ClusterGone(LifecycleFailed):
    """It cannot be reached, or no kubeconfig says where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLifecycleArgs:
    """What the lifecycle waits for, and on which cluster."""

    namespace: pulumi.Input[str]
    context: pulumi.Input[str] = ""
    """Context of the kubeconfig; "" is its current one."""
    kubeconfig_path: pulumi.Input[str] = ""
    """"" follows the stack's `kubernetes:kubeconfig`, else kubectl's rules."""
    stack: pulumi.Input[str]
    """Its name: `pulumi.get_stack()` answers "stack" in a provider's process."""
    deployments: pulumi.Input[list[str]]
    shadow: pulumi.Input[list[str]] = field(default_factory=list)
    """Of them, those that the scaler only watches: another autoscaler may be there."""
    celeries: pulumi.Input[dict[str, str]] = field(default_factory=dict)
    """Name of each `Celery` object, and a digest of its spec."""
    config_digest: pulumi.Input[str] = ""
    """A digest of whatever else is worth another wait: images, the broker."""
    ready_timeout_seconds: pulumi.Input[int] = 60
    """From when the scaler's pod runs, and for each pod once its image is there."""
    image_timeout_seconds: pulumi.Input[int] = 300
    """For nodes to be found and images to be pulled."""
    on_destroy: pulumi.Input[str] = OnDestroy.DRAIN.value
    drain_timeout_seconds: pulumi.Input[int] = DRAIN_TIMEOUT_SECONDS
    producers: pulumi.Input[list[str]] = field(default_factory=list)
    """Deployments of the stack's own that publish tasks: stopped while the fleet empties."""
    queues: pulumi.Input[dict[str, str]] = field(default_factory=dict)
    """Of each pool, as `a,b`."""
    broker: pulumi.Input[dict[str, pulumi.Input[str]]] = field(default_factory=dict)
    """What decides whether queued messages are found again, by the setting's name; no credentials."""
    schema_revision: pulumi.Input[int] = 1
    """Of the CRD that this program brings."""


class LifecycleProvider(ResourceProvider):
    """Runs in the dynamic provider's process; one instance serves every call there."""

    serialize_as_secret_always = False
    """The pickle is this class's name, nothing more: a reader of the state may see it."""

    _kubeconfig = ""
    _on_destroy = ""
    _drain_timeout = ""

    def configure(self, req: ConfigureRequest) -> None:
        # Here at destroy too, where the program does not run: as the last `up` recorded it.
        self._kubeconfig = str(req.config.get("kubernetes:kubeconfig") or "")
        self._on_destroy = str(req.config.get("onDestroy") or "")
        self._drain_timeout = str(req.config.get("drainTimeoutSeconds") or "")

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Runs at preview, before the first write, and again before the resource is made."""
        unknown = frozenset(key for key, value in news.items() if is_unknown(value))
        if unknown & WHERE:
            return CheckResult(news, [])
        before = declaration_of(olds) if olds.get("stack") else None
        wanted = declaration_of(known(news))
        recorded = before.cluster_uid if before else ""
        try:
            with self._cluster(wanted) as cluster:
                uid = cluster.uid()
                if stranger := other_cluster(recorded, uid, cluster.description):
                    return CheckResult(news, [CheckFailure("context", stranger)])
                found = [CheckFailure(r.key, r.reason) for r in refusals(before, wanted, cluster, unknown)]
                stopped = cluster.read_stopped(wanted.namespace, wanted.producers)
        except LifecycleFailed as error:
            return CheckResult(news, [CheckFailure("context", str(error))])
        # Inputs from here on, though no one declares them: `check` gets old inputs, not old outputs, and a
        # producer at 0, which a drain that was killed leaves, is nothing that another input would show.
        return CheckResult({**news, "cluster_uid": recorded or uid, "stopped": stopped}, found)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        if any(is_unknown(value) for value in news.values()):
            return DiffResult(changes=True, replaces=[])
        return DiffResult(changes=declaration_of(olds).updates(declaration_of(news)), replaces=[])

    def create(self, props: dict[str, Any]) -> CreateResult:
        declared = declaration_of(props)
        return CreateResult(
            f"{declared.namespace}/{declared.stack}", self._wait(declared, declared.cluster_uid)
        )

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(self._wait(declaration_of(news), declaration_of(olds).cluster_uid))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """At refresh: the state as it is, or gone where the namespace is, so that the next `up` waits."""
        declared = declaration_of(props)
        with self._cluster(declared) as cluster:
            _refuse_other(declared.cluster_uid, cluster)
            there = cluster.has_namespace(declared.namespace)
        return ReadResult(id_ if there else "", props)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Nothing else of the stack goes before this returns, and nothing at all if it raises."""
        declared = declaration_of(props)
        try:
            policy = policy_of(_now(declared, "onDestroy") or self._on_destroy or declared.on_destroy)
            timeout = _now(declared, "drainTimeoutSeconds") or self._drain_timeout
            seconds = number_of(timeout, declared.drain_timeout_seconds)
            with self._cluster(declared) as cluster:
                _refuse_other(declared.cluster_uid, cluster)
                depart(policy, declared, cluster, seconds, _say)
        except NotEmpty as error:
            raise _for_people(LifecycleFailed(str(error))) from None
        except (ClusterGone, Forbidden) as error:
            if policy is not OnDestroy.DISCARD:
                raise _for_people(LifecycleFailed(given_up(policy, [str(error)]))) from None
            _say(f"removed from the state without asking the cluster: {error}")

    def _wait(self, declared: Declaration, recorded_uid: str) -> dict[str, Any]:
        with self._cluster(declared) as cluster:
            uid = _refuse_other(recorded_uid, cluster)
            bring_back(declared, cluster, _say)
            notes = _wait_until_ready(declared, cluster)
        return {
            **asdict(declared),
            "deployments": list(declared.deployments),
            "stopped": [],
            "cluster_uid": uid or recorded_uid,
            "ready_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "messages": list(notes),
        }

    @contextmanager
    def _cluster(self, declared: Declaration) -> Iterator[Cluster]:
        from infra.live.cluster import Cluster, ClusterUnavailable, NotAllowed
        from infra.live.kubeconfig import NoCluster

        vars(sys).pop("tracebacklimit", None)
        try:
            with Cluster(declared.context, declared.kubeconfig_path or self._kubeconfig) as cluster:
                yield cluster
        except (NoCluster, ClusterUnavailable) as error:
            raise _for_people(ClusterGone(str(error))) from None
        except NotAllowed as error:
            raise _for_people(Forbidden(f"your user may not do what this needs: {error}")) from None
        except LifecycleFailed as error:
            raise _for_people(error) from None


def _now(declared: Declaration, key: str) -> str:
    # The engine starts providers in the project's folder.
    return value_of(declared.stack, key, Path.cwd())


def _for_people(error: LifecycleFailed) -> LifecycleFailed:
    """The server prints the stack of whatever a provider raises; these are sentences, without one."""
    sys.tracebacklimit = 0
    return error


def _refuse_other(recorded_uid: str, cluster: Cluster) -> str:
    uid = cluster.uid()
    if stranger := other_cluster(recorded_uid, uid, cluster.description):
        raise LifecycleFailed(stranger)
    return uid


def _wait_until_ready(declared: Declaration, cluster: Cluster) -> tuple[str, ...]:
    """Returns the notes on what is not as wished and keeps nothing from working; raises LifecycleFailed."""
    from infra.live.cluster import ClusterUnavailable

    limits = Limits(
        ready_seconds=declared.ready_timeout_seconds, image_seconds=declared.image_timeout_seconds
    )
    memory = Memory(started=time.monotonic())
    last_read = last_said = memory.started
    said: set[str] = set()
    while True:
        try:
            seen = cluster.read_fleet(
                declared.namespace, declared.deployments, declared.celeries, datetime.now(UTC)
            )
        except ClusterUnavailable:
            if time.monotonic() - last_read >= LOST_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        now = last_read = time.monotonic()
        verdict, memory = assess(seen, memory, limits, now)
        match verdict:
            case Done(notes):
                return notes
            case Failed(message):
                raise LifecycleFailed(message)
            case Waiting(troubles) if now - last_said >= PROGRESS_SECONDS:
                new = [trouble for trouble in troubles if trouble.key not in said]
                said.update(trouble.key for trouble in new)
                if new:
                    more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
                    _say(f"{now - memory.started:.0f} s: {new[0].subject}: {new[0].what}{more}")
                last_said = now
        time.sleep(POLL_SECONDS)


def _say(line: str) -> None:
    # The engine shows a plugin's standard output line by line; `pulumi.log` has no engine to talk to here.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class FleetLifecycle(Resource, module="celeryfleet", name="FleetLifecycle"):
    """Depends on every other resource of the stack: made last, removed first."""

    cluster_uid: pulumi.Output[str]
    """UID of the namespace kube-system: the cluster's identity, whatever its address or context."""
    ready_at: pulumi.Output[str]
    """When the last create or update found everything ready."""
    messages: pulumi.Output[list[str]]
    """What was not as wished then and kept nothing from working, as a pool on a full cluster."""

    def __init__(
        self, name: str, args: FleetLifecycleArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        # Not dataclasses.asdict: it would deep-copy Outputs.
        declared = {item.name: getattr(args, item.name) for item in fields(args)}
        outputs = {"cluster_uid": None, "ready_at": None, "messages": None}
        super().__init__(LifecycleProvider(), name, {**declared, **outputs}, opts)
