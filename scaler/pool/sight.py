"""What one tick saw of one pool, before anything is made of it.

It owns the questions that a tick can ask of its own reads, and turns a read that failed into what is
unknown. It is filled by `scaler.loop`; `scaler.pool.pool` judges by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import ClusterFailure, Deployment, Pod
from scaler.contract import Policy
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.crew import BOOT_SECONDS, FRESH_SECONDS, Crew, Rest, crew_of, node_of
from scaler.pool.drain import Leaving
from scaler.pool.flow import Flow
from scaler.workers.answers import Answers, Heard

CLOCK_SECONDS: Final = 5.0
"""By how much the clocks of nodes may differ."""


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
    keepers_since: float | None = None
    """Since when the oldest worker runs that takes messages of these queues; None where there is none."""
    visibility_seconds: float = 3600.0
    """Age at which a worker gives a message back that nobody acknowledged."""
    heard: Heard = field(default_factory=Heard)
    answers: Answers = field(default_factory=Answers)
    """Empty until workers were asked in this tick, and where that was not needed."""

    def queued_due(self, policy: Policy | None) -> Count:
        if policy is None or not isinstance(self.backlog, Backlog):
            return UNKNOWN
        return self.backlog.queued_due(policy.queues)

    def unacked_due(self, policy: Policy | None) -> Count:
        """Without those that no worker can do yet: stranded ones, until the broker gives them back."""
        if policy is None or not isinstance(self.backlog, Backlog):
            return UNKNOWN
        late = self._stranded_before()
        back = self.at - self.visibility_seconds
        waiting = 0
        if late is not None:
            queues = policy.queues
            waiting = self.backlog.taken_before(queues, late) - self.backlog.taken_before(queues, back)
        return self.backlog.delivered_due(policy.queues).less(max(0, waiting))

    def stranded(self, policy: Policy) -> int | None:
        """Messages whose worker is gone; at least so many, for only the oldest are looked at."""
        if not isinstance(self.backlog, Backlog) or self.backlog.unacked is None:
            return None
        late = self._stranded_before()
        return None if late is None else self.backlog.taken_before(policy.queues, late)

    def tasks_due(self, policy: Policy) -> frozenset[str] | None:
        """Ids of the due tasks that workers hold by the broker's account; None where some may be missing."""
        backlog = self.backlog
        if not isinstance(backlog, Backlog) or backlog.unacked is None or not backlog.unacked.complete:
            return None
        return backlog.tasks_due(policy.queues)

    def _stranded_before(self) -> float | None:
        """Who took a message before this is no more; None where workers may be there that nobody sees."""
        living = sum(not pod.terminating for pod in self.pods)
        if self.deployment is None or (self.deployment.replicas or 0) > living:
            return None
        if self.keepers_since is not None:
            return self.keepers_since - CLOCK_SECONDS
        # Where nobody is, a message taken a moment ago may be that of a pod whose end was seen early.
        return self.at - CLOCK_SECONDS

    def flow_after(self, earlier: Flow, demand: Count) -> Flow:
        """The rates, as the workers' heartbeats and this tick's demand carry them on."""
        beats = {pod.name: self.heard.last.get(node_of(pod.name)) for pod in self.pods}
        running = {pod.name: pod.running_since for pod in self.pods if pod.running_since is not None}
        fresh = {name for name, beat in beats.items() if beat and self.at - beat.at <= FRESH_SECONDS}
        booted = {name for name, since in running.items() if self.at - since > BOOT_SECONDS}
        terminating = {pod.name for pod in self.pods if pod.terminating}
        listening = self.heard.since
        return earlier.after(
            {name: beat.processed for name, beat in beats.items() if beat is not None},
            new={name for name, since in running.items() if listening is not None and since >= listening},
            demand=None if demand.high is None else demand.low,
            complete=booted - terminating <= fresh,
            at=self.at,
        )

    def crew(
        self,
        policy: Policy,
        deployment: Deployment,
        leaving: Sequence[Leaving],
        rests: Mapping[str, Rest],
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
            rests=rests,
            quiet_since=quiet_since,
            at=self.at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a pool has to know of its workers before it can be judged; pods by name."""

    queues: Sequence[str]
    stop: frozenset[str]
    """Those that leave: to be told again, before they are asked."""
    ask: frozenset[str]
