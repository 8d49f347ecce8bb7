"""What one tick saw of one pool, before anything is made of it.

It owns the questions that a tick can ask of its own reads, and turns a read that failed into what is
unknown. It is filled by `scaler.loop`; `scaler.pool.pool` judges by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import ClusterFailure, Deployment, Pod
from scaler.contract import Policy
from scaler.pool.count import NOTHING, UNKNOWN, Count
from scaler.pool.crew import BOOT_SECONDS, FRESH_SECONDS, Crew, Rest, crew_of, node_of
from scaler.pool.drain import Leaving
from scaler.pool.flow import Flow
from scaler.workers.answers import Answers, Heard, HeldTasks

CLOCK_SECONDS: Final = 5.0
"""By how much the clocks of nodes may differ."""
DECLARE_SECONDS: Final = 30.0
"""Time after a worker's start by which it has declared its queues, where the broker knows such a thing."""


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
        """Without those that no worker can do yet: stranded ones, until the broker gives them back.

        Where the broker only counts what workers hold, their answers tell what of it is due: as much as
        they say, and whatever they do not speak of. A task that moves in between counts twice, never not.
        """
        if policy is None or not isinstance(self.backlog, Backlog):
            return UNKNOWN
        if self.backlog.counts_only:
            held = self.backlog.delivered_due(policy.queues)
            return _between(self._said(HeldTasks.unacked_due), held, self._said(HeldTasks.not_due).low)
        late = self._stranded_before()
        back = self.at - self.visibility_seconds
        waiting = 0
        if late is not None:
            queues = policy.queues
            waiting = self.backlog.taken_before(queues, late) - self.backlog.taken_before(queues, back)
        return self.backlog.delivered_due(policy.queues).less(max(0, waiting))

    def unsettled(self, policy: Policy) -> bool:
        """Workers hold messages of which only they can say whether they are due."""
        if not isinstance(self.backlog, Backlog) or not self.backlog.counts_only:
            return False
        return self.backlog.delivered_due(policy.queues).high != 0

    def not_due(self, policy: Policy) -> Count:
        if not isinstance(self.backlog, Backlog):
            return UNKNOWN
        if not self.backlog.counts_only:
            return self.backlog.not_due(policy.queues)
        held = self.backlog.delivered_due(policy.queues)
        said = _between(self._said(HeldTasks.not_due), held, self._said(HeldTasks.unacked_due).low)
        return said + self.backlog.delayed.of(policy.queues)

    def next_due(self, policy: Policy) -> float | None:
        """When the first of those will be due, as far as that is known."""
        if not isinstance(self.backlog, Backlog):
            return None
        known = [tasks.next_due for tasks in self.answers.tasks.values()] if self.backlog.counts_only else []
        known.append(self.backlog.next_due_at(policy.queues))
        return min((at for at in known if at is not None), default=None)

    def held_for_later(self, policy: Policy) -> bool:
        """Workers hold tasks that are not due, and that nobody could tell from due ones without them."""
        return self.unsettled(policy) and self._said(HeldTasks.not_due).low > 0

    def missing(self, policy: Policy) -> tuple[str, ...]:
        """Queues that the broker says do not exist."""
        if not isinstance(self.backlog, Backlog):
            return ()
        return tuple(queue for queue in policy.queues if queue in self.backlog.missing)

    def lost(self, policy: Policy) -> tuple[str, ...]:
        """Those that should, as workers that consume from them have run for long enough to declare them."""
        runs = any(
            pod.running_since is not None and self.at - pod.running_since > DECLARE_SECONDS
            for pod in self.pods
            if not pod.terminating
        )
        return self.missing(policy) if runs else ()

    def stranded(self, policy: Policy) -> int | None:
        """Messages whose worker is gone; at least so many, for only the oldest are looked at."""
        if not isinstance(self.backlog, Backlog) or self.backlog.unacked is None:
            return None
        if self.backlog.counts_only:
            return 0
        late = self._stranded_before()
        return None if late is None else self.backlog.taken_before(policy.queues, late)

    def all_spoken_of(self, policy: Policy) -> bool:
        """Whether the workers that answered hold whatever the broker has as delivered, as far as is known."""
        backlog = self.backlog
        if not isinstance(backlog, Backlog) or backlog.unacked is None or not backlog.unacked.complete:
            return False
        spoken_of: set[str] = set()
        for tasks in self.answers.tasks.values():
            spoken_of |= tasks.running | tasks.reserved
        if not backlog.counts_only:
            return spoken_of.issuperset(backlog.tasks_due(policy.queues))
        held = backlog.delivered_due(policy.queues).high
        said = self._said(HeldTasks.unacked_due) + self._said(HeldTasks.not_due)
        return held is not None and held <= said.low

    def _said(self, of: Callable[[HeldTasks, float], Count]) -> Count:
        """What all workers that answered say together."""
        return sum((of(tasks, self.at) for tasks in self.answers.tasks.values()), NOTHING)

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


def _between(said: Count, held: Count, others: int) -> Count:
    """At least what workers say; at most that, and whatever the broker has beside it and `others`."""
    if held.high is None or said.high is None:
        return Count(said.low, None)
    return Count(said.low, max(said.high, held.high - others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a pool has to know of its workers before it can be judged; pods by name."""

    queues: Sequence[str]
    stop: frozenset[str]
    """Those that leave: to be told again, before they are asked."""
    ask: frozenset[str]
