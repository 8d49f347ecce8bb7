"""One pool as the loop follows it: what it remembers of it, and what a tick has to say about it.

It owns the step from what was read (object, Deployment, backlog, failures) to a `Report`: which failure
is told, and whether a decision can be made at all. It talks to nobody and reads no clock.

The arithmetic is in `scaler.decision`, the report's form in `scaler.status`, acting on it in `scaler.loop`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scaler import status
from scaler.backlog import Backlog, BrokerFailure
from scaler.contract import Policy, Ready
from scaler.decision import UNKNOWN, ForeignWrite, Memory, Observation, Reason, decide
from scaler.objects import CeleryObject, ClusterFailure, Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one tick saw of one pool."""

    at: float
    deployment: Deployment | None
    other_scaler: str | None
    backlog: Backlog | BrokerFailure
    trouble: ClusterFailure | None
    """A right that the scaler lacks, found while it read or wrote."""


class Pool:
    """A `Celery` object from the first tick that saw it to its removal."""

    def __init__(self, celery: CeleryObject) -> None:
        self.celery = celery
        self.policy: Policy | None = celery.policy
        """The last one that could be followed."""
        self.memory = Memory()
        self.ready: Ready | None = None
        """What the last tick found."""
        self.written: status.Document = {}
        self.written_at = 0.0
        self.last_scale_at: float | None = None
        self.announced = ("", "")
        self.announced_at = 0.0
        self._foreign: tuple[tuple[str, str, int], ForeignWrite] | None = None
        self.trouble: ClusterFailure | None = None
        self.scale_retry_at = 0.0
        self.status_retry_at = 0.0
        self.restore()

    @property
    def name(self) -> str:
        return self.celery.name

    def update(self, celery: CeleryObject) -> None:
        """Take the object as it is now; where its spec is invalid the last good policy stays."""
        self.celery = celery
        self.policy = celery.policy or self.policy

    def restore(self) -> None:
        """Go by the stored status: at the start, and as long as another scaler writes it."""
        stored = self.celery.stored_status
        remembered = status.memory_of(stored)
        self.memory = replace(remembered, wishes=self.memory.wishes)
        self.written = stored
        self.last_scale_at = status.last_scale_of(stored)
        self.announced = status.news_of(stored)

    def judge(self, sight: Sight) -> status.Report:
        """Say what this tick found and decided; the report's memory is of a decision that is carried out."""
        policy, deployment = self.policy, sight.deployment
        if policy is None or deployment is None:
            ready, message = self._ready(sight, Reason.DEMAND_MET)
            return status.Report(
                generation=self.celery.generation,
                ready=ready,
                ready_message=message,
                replicas=None,
                queued=UNKNOWN,
                unacked=UNKNOWN,
                decision=None,
                memory=self.memory,
                last_scale_at=self.last_scale_at,
            )
        queued, unacked = UNKNOWN, UNKNOWN
        if isinstance(sight.backlog, Backlog):
            queued = sight.backlog.queued(policy.queues)
            unacked = sight.backlog.delivered(policy.queues)
        observation = Observation(
            at=sight.at,
            queued=queued,
            unacked=unacked,
            spec_replicas=deployment.spec_replicas,
            other_scaler=sight.other_scaler,
            foreign_write=self._foreign_write(deployment, sight.at),
        )
        self.memory, self.last_scale_at = status.settle(
            self.memory, self.written, self.last_scale_at, deployment.spec_replicas
        )
        decision, memory = decide(policy, observation, self.memory)
        ready, message = self._ready(sight, decision.reason)
        return status.Report(
            generation=self.celery.generation,
            ready=ready,
            ready_message=message,
            replicas=deployment.replicas,
            queued=queued,
            unacked=unacked,
            decision=decision,
            memory=memory,
            last_scale_at=self.last_scale_at,
        )

    def _foreign_write(self, deployment: Deployment, at: float) -> ForeignWrite | None:
        """Somebody else's change of the replicas, with the time at which it was first seen.

        The owner's own time is of no use once another of its fields changes. A change that an earlier
        scaler has already decided about is none.
        """
        owner = deployment.foreign_owner
        if owner is None:
            self._foreign = None
            return None
        key = (deployment.uid, owner.manager, deployment.spec_replicas)
        if self._foreign is None or self._foreign[0] != key:
            first = self._foreign is None and self.ready is None
            seen_at = at if owner.at is None else min(owner.at, at)
            if first and status.agreed(self.written, deployment.spec_replicas):
                seen_at = -math.inf
            self._foreign = (key, ForeignWrite(manager=owner.manager, at=seen_at))
        return self._foreign[1]

    def without_step(self, report: status.Report) -> status.Report:
        """The report of a tick that changes no replicas, whatever was decided."""
        return replace(report, memory=replace(report.memory, scale_events=self.memory.scale_events))

    def _ready(self, sight: Sight, reason: Reason) -> tuple[Ready, str]:
        """The most basic thing that is wrong, for the others follow from it."""
        policy = self.policy
        if self.celery.invalid is not None or policy is None:
            kept = "the last valid spec is followed" if policy else "nothing is scaled"
            return Ready.INVALID_SPEC, f"{self.celery.invalid}; {kept}"
        if sight.trouble is not None:
            return Ready.FORBIDDEN, sight.trouble.sentence
        if sight.deployment is None:
            return Ready.DEPLOYMENT_NOT_FOUND, f"there is no Deployment {policy.deployment} in this namespace"
        if reason is Reason.OTHER_SCALER:
            return Ready.OTHER_SCALER, f"{sight.other_scaler} scales {policy.deployment} too: delete one"
        failure = (
            sight.backlog
            if isinstance(sight.backlog, BrokerFailure)
            else sight.backlog.failure(policy.queues)
        )
        if failure is not None:
            return failure.reason, failure.sentence
        queues = "queue" if len(policy.queues) == 1 else "queues"
        return Ready.WATCHING, f"{policy.deployment} follows the {queues} {', '.join(policy.queues)}"
