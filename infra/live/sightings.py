"""What one reading of the cluster found, in the few fields that a wait is decided by.

It owns the words between `infra.live.cluster`, which fills them in from the API server's objects, and those
that judge: `infra.live.rollout` and `infra.live.readiness` for a wait, `infra.live.preflight` for a preview.
It holds no rule beyond what `kubectl rollout status` calls done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSeen:
    name: str
    image: str
    probed: bool = False
    """It has a readiness probe, so `ready` means something."""
    ready: bool = False
    running_seconds: float | None = None
    """By the node's clock; None where it does not run."""
    waiting: str = ""
    """kubelet's reason, as `ImagePullBackOff`; "" where it does not wait."""
    message: str = ""
    restarts: int = 0
    ended: bool = False
    """It is down at this moment, after its end and before its next start."""
    exited: str = ""
    """How it last ended, as `OOMKilled, exit code 137`."""
    log_tail: str = ""

    @property
    def crashed(self) -> bool:
        """Kubernetes 1.36 calls it CrashLoopBackOff in the last instants of the back-off only."""
        return self.ended or self.waiting == "CrashLoopBackOff"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    name: str
    containers: tuple[ContainerSeen, ...] = ()
    """Init containers first. Empty before kubelet has taken the pod on."""
    unschedulable: str = ""
    """The scheduler's sentence."""
    set_up: bool = False
    """Its volumes are mounted and its network is there: older warnings about them are settled."""
    warnings: tuple[tuple[str, str], ...] = ()
    """Reason and message of its Warning events, the newest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSeen:
    name: str
    generation: int = 1
    observed_generation: int = 1
    wanted: int = 1
    replicas: int = 1
    """Of every version, without those that are terminating."""
    updated: int = 1
    available: int = 1
    refused: str = ""
    """The condition ReplicaFailure: why no pod could be made (quota, admission)."""
    pods: tuple[PodSeen, ...] = ()
    """Of its newest version, neither ended nor terminating."""

    @property
    def rolled_out(self) -> bool:
        """As `kubectl rollout status` sees it: pods that terminate, perhaps for hours, are not waited for."""
        return (
            self.observed_generation >= self.generation
            and self.updated >= self.wanted
            and self.replicas <= self.updated
            and self.available >= self.updated
        )

    @property
    def serves(self) -> bool:
        """It runs the new version and only that, if with fewer pods than wanted."""
        return (
            self.observed_generation >= self.generation
            and self.replicas <= self.updated
            and self.available >= 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CelerySeen:
    """A `Celery` object: its generation and its condition Ready."""

    name: str
    generation: int = 1
    observed_generation: int = 0
    """The condition's: the generation that the scaler spoke about; 0 where it said nothing yet."""
    ready: str = ""
    """"True", "False", "Unknown"; "" where there is no such condition."""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One reading of the cluster; None stands for an object that is not there."""

    deployments: Mapping[str, DeploymentSeen | None] = field(default_factory=dict)
    celeries: Mapping[str, CelerySeen | None] = field(default_factory=dict)


class Right(NamedTuple):
    """One verb on one kind, as a Role has it."""

    verb: str
    group: str
    resource: str
    """Its subresource follows after a slash, as in `pods/eviction`."""
    name: str = ""
    """Of the one object that it is about; "" is all of them."""

    def __str__(self) -> str:
        group = f".{self.group}" if self.group else ""
        return f"{self.verb} {self.resource}{group}" + (f" {self.name}" if self.name else "")


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """Something else that writes a Deployment's replicas."""

    kind: str
    name: str
    deployment: str


@dataclass(frozen=True, slots=True)
class Autoscalers:
    found: tuple[Autoscaler, ...] = ()
    unseen: tuple[str, ...] = ()
    """Kinds that this user may not list: whether there are any is not known."""
