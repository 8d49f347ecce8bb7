"""What one tick saw of one pool, before anything is made of it.

It owns the questions that a tick can ask of its own reads, and turns a read that failed into what is
unknown. It is filled by `scaler.loop`; `scaler.pool` judges by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scaler.backlog import Backlog, BrokerFailure
from scaler.contract import Policy
from scaler.crew import Answers, Crew, crew_of
from scaler.decision import UNKNOWN, Count
from scaler.drain import Leaving
from scaler.heartbeats import Heard
from scaler.objects import ClusterFailure, Deployment, Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    at: float
    read_at: float
    """When the broker had been read."""
    deployment: Deployment | None
    other_scaler: str | None
    backlog: Backlog | BrokerFailure
    trouble: ClusterFailure | None
    """A right that the scaler lacks, found while it read or wrote."""
    pods: Sequence[Pod] = ()
    heard: Heard = field(default_factory=Heard)
    answers: Answers = field(default_factory=Answers)
    """Empty until workers were asked in this tick, and where that was not needed."""

    def queued_due(self, policy: Policy | None) -> Count:
        if policy is None or not isinstance(self.backlog, Backlog):
            return UNKNOWN
        return self.backlog.queued_due(policy.queues)

    def unacked_due(self, policy: Policy | None) -> Count:
        if policy is None or not isinstance(self.backlog, Backlog):
            return UNKNOWN
        return self.backlog.delivered_due(policy.queues)

    def crew(
        self,
        policy: Policy,
        deployment: Deployment,
        leaving: Sequence[Leaving],
        quiet_since: float | None,
    ) -> Crew:
        held: frozenset[str] = frozenset()
        if isinstance(self.backlog, Backlog) and any(
            tasks.acknowledged for tasks in self.answers.tasks.values()
        ):
            held = self.backlog.tasks_due(policy.queues)
        return crew_of(
            self.pods,
            replicas=deployment.replicas,
            slots=policy.concurrency,
            heard=self.heard,
            answers=self.answers,
            leaving={victim.pod for victim in leaving},
            held=held,
            quiet_since=quiet_since,
            at=self.at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a pool has to know of its workers before it can be judged; pods by name."""

    stop: frozenset[str]
    """Those that leave: to be told again, before they are asked."""
    ask: frozenset[str]
