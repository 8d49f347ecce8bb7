"""One pool as the loop follows it: what it remembers of it, and what a tick has to say about it.

It owns the step from what was read (object, Deployment, backlog, failures) to a `Report`, and whether a
decision can be made at all. It talks to nobody and reads no clock.

The arithmetic is in `scaler.pool.decision`, the report's form in `scaler.pool.status`, acting on it in
`scaler.loop`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from scaler.broker.backlog import Backlog
from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment, Pod
from scaler.contract import Mode, Policy, Ready
from scaler.pool import status
from scaler.pool.count import UNKNOWN
from scaler.pool.crew import Crew, Rest, node_of
from scaler.pool.decision import Decision, ForeignWrite, Memory, Observation, Reason, decide
from scaler.pool.drain import DrainReason, Leaving, Plan, ended
from scaler.pool.drift import drift
from scaler.pool.flow import Flow
from scaler.pool.handshake import AGAIN_SECONDS, Scene, Step, step_of
from scaler.pool.let_go import LetGo
from scaler.pool.ready import ready_of
from scaler.pool.sight import Questions, Sight
from scaler.pool.step_limits import with_event
from scaler.pool.stuck import EVICT_SECONDS, stuck, suspects

SILENT_TICKS: Final = 2
"""Ticks in a row in which nobody answered, after which nobody is expected to."""


class Pool:
    """A `Celery` object from the first tick that saw it to its removal."""

    def __init__(self, celery: CeleryObject, *, handshake: bool = True) -> None:
        self.celery = celery
        self._handshake = handshake
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
        self.leaving: tuple[Leaving, ...] = ()
        """Who leaves, as it is on the status."""
        self.returning: frozenset[str] = frozenset()
        """Of those, the ones that are taken back: they stay on the status until they say so."""
        self.let_go = LetGo()
        self._back: frozenset[str] = frozenset()
        self.evicted_at = -math.inf
        self._any_heard = False
        self._suspects: frozenset[str] = frozenset()
        self._waiting_since: float | None = None
        self._quiet_since: float | None = None
        self._rests: dict[str, Rest] = {}
        self._flow = Flow()
        self._unanswered = 0
        self._again_at = 0.0
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
        self.leaving = status.leaving_of(stored)
        self.let_go.restore(self.leaving)
        self.returning &= {victim.pod for victim in self.leaving}

    def questions(self, sight: Sight) -> Questions | None:
        """What the workers have to be asked in this tick; None where nothing depends on their answer.

        Asked is before a removal, while workers leave, and where the broker alone could not keep the
        demand from reading 0 while tasks run. An idle pool is asked nothing.
        """
        policy, deployment = self.policy, sight.deployment
        self._note(sight)
        if policy is None or deployment is None:
            return None
        crew = sight.crew(policy, deployment, self.leaving, self._rests, self._quiet_since)
        observation = self._observe(sight, deployment, crew)
        decision, _ = decide(policy, observation, self.memory)
        open_question = _open_question(sight, policy, observation)
        wanted = (
            self.leaving
            or decision.desired_replicas < deployment.spec_replicas
            or open_question
            or self._suspects
        )
        if not wanted or not crew.to_ask:
            return None
        leaving = frozenset(victim.pod for victim in self.leaving) - self.returning
        tells = self._handshake and policy.mode is not Mode.SHADOW
        stop = leaving & crew.to_ask if tells else frozenset()
        return Questions(queues=policy.queues, stop=stop, ask=crew.to_ask)

    def judge(self, sight: Sight) -> tuple[status.Report, Step | None]:
        """Say what this tick found, decided and plans; the memory is of a plan that is carried out."""
        policy, deployment = self.policy, sight.deployment
        report = status.Report(
            generation=self.celery.generation,
            ready=Ready.WATCHING,
            ready_message="",
            replicas=None,
            queued=UNKNOWN,
            unacked=UNKNOWN,
            decision=None,
            memory=self.memory,
            last_scale_at=self.last_scale_at,
        )
        if policy is None or deployment is None:
            ready, message = ready_of(self.celery, policy, sight, Reason.DEMAND_MET)
            return replace(report, ready=ready, ready_message=message), None
        if sight.answers.asked:
            self._unanswered = 0 if sight.answers.tasks else self._unanswered + 1
        self.let_go.look(sight.pods, deployment, sight.at)
        self.memory, self.last_scale_at = status.settle(
            self.memory, self.written, self.last_scale_at, deployment.spec_replicas
        )
        crew = sight.crew(policy, deployment, self.leaving, self._rests, self._quiet_since)
        observation = self._observe(sight, deployment, crew)
        decision, memory = decide(policy, observation, self.memory)
        ready, message = ready_of(self.celery, policy, sight, decision.reason)
        self._flow = sight.flow_after(self._flow, observation.demand)
        shadow = policy.mode is Mode.SHADOW
        if shadow:
            step = Step(replicas=deployment.spec_replicas, drain=self._undone(sight, crew))
        else:
            step = self._step(sight, policy, deployment, crew, decision)
        events = with_event(
            policy, self.memory.scale_events, deployment.spec_replicas, step.replicas, sight.at
        )
        report = replace(
            report,
            ready=ready,
            ready_message=message,
            replicas=deployment.replicas,
            decision=decision,
            memory=replace(memory, scale_events=events),
            last_scale_at=self.last_scale_at,
            demand=observation.demand,
            active=crew.running,
            capacity=crew.capacity,
            drain=step.drain,
            ended=ended(
                self.leaving,
                step.drain,
                returning=self.returning,
                living={pod.name for pod in sight.pods if not pod.terminating},
                at=sight.at,
            ),
            observation=observation,
            stranded=sight.stranded(policy),
            flow=self._flow,
            shadow=shadow,
            drift=drift(policy, deployment),
        )
        if isinstance(sight.backlog, Backlog):
            report = replace(
                report,
                queued=sight.backlog.queued(policy.queues),
                unacked=sight.backlog.delivered(policy.queues),
                not_due=sight.not_due(policy),
                next_due=sight.next_due(policy),
            )
        return report, step

    def stuck(self, sight: Sight) -> Pod | None:
        """A worker that takes nothing though there is work, to be evicted."""
        if self.policy is None or sight.at < self.evicted_at + EVICT_SECONDS:
            return None
        found = stuck(
            self._suspects,
            sight.answers,
            all_spoken_of=sight.all_spoken_of(self.policy),
            later_takes_place=sight.unsettled(self.policy),
        )
        return next((pod for pod in sight.pods if pod.name in found), None)

    def came_back(self, pods: frozenset[str]) -> None:
        """These say that they consume again."""
        self._back |= pods

    def _note(self, sight: Sight) -> None:
        """Remember what only several ticks together tell."""
        queued = sight.queued_due(self.policy)
        due = queued + sight.unacked_due(self.policy)
        if not queued.low:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = sight.at
        if due.exact != 0:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = sight.read_at
        beats = {pod.name: sight.heard.last.get(node_of(pod.name)) for pod in sight.pods}
        rests = {name: Rest.after(self._rests.get(name), beat) for name, beat in beats.items() if beat}
        self._rests = {name: rest for name, rest in rests.items() if rest is not None}
        self._any_heard = self._any_heard or any(beats.values())
        self._suspects = suspects(
            sight.pods,
            heard=sight.heard,
            rests=self._rests,
            leaving={victim.pod for victim in self.leaving},
            waiting_since=self._waiting_since,
            any_heard=self._any_heard,
            at=sight.at,
        )

    def _observe(self, sight: Sight, deployment: Deployment, crew: Crew) -> Observation:
        return Observation(
            at=sight.at,
            queued=sight.queued_due(self.policy),
            unacked=sight.unacked_due(self.policy),
            active=crew.active,
            next_due=sight.next_due(self.policy) if self.policy else None,
            held_for_later=bool(self.policy and sight.held_for_later(self.policy)),
            spec_replicas=deployment.spec_replicas,
            other_scaler=sight.other_scaler,
            foreign_write=self._foreign_write(deployment, sight.at),
        )

    def _step(
        self, sight: Sight, policy: Policy, deployment: Deployment, crew: Crew, decision: Decision
    ) -> Step:
        if not self._handshake:
            return Step(replicas=decision.desired_replicas, drain=Plan())
        step = step_of(
            decision,
            Scene(
                at=sight.at,
                policy=policy,
                deployment=deployment,
                pods=sight.pods,
                crew=crew,
                leaving=self.leaving,
                let_go=self.let_go.pods,
                marks_are_seen=self.let_go.marks_are_seen(sight.at),
                again_at=self._again_at,
                answerless=self._answerless(crew),
                rests=self._rests,
                quiet_since=self._quiet_since,
            ),
        )
        if step.drain.reason is DrainReason.DEADLINE and self.leaving:
            window = policy.behavior.scale_down.stabilization_seconds
            self._again_at = sight.at + max(AGAIN_SECONDS, window)
        return replace(step, drain=self._with_returning(step.drain, sight, crew))

    def _undone(self, sight: Sight, crew: Crew) -> Plan:
        """What shadow does about workers: nothing, but to take back those that an active pool let go."""
        if not self.leaving:
            return Plan(message="in shadow no worker is told anything")
        gone = tuple(victim for victim in self.leaving if victim.pod in self.let_go.pods)
        back = frozenset(victim.pod for victim in self.leaving) - self.let_go.pods
        sentence = "in shadow no worker leaves"
        plan = Plan(leaving=gone, resume=back, reason=DrainReason.TAKEN_BACK, message=sentence)
        return self._with_returning(plan, sight, crew)

    def _with_returning(self, drain: Plan, sight: Sight, crew: Crew) -> Plan:
        """Keep those that are taken back on the status until they consume again and carry no mark.

        Dropped at once, a scaler killed before they were told would leave them deaf for ever.
        """
        marked = {pod.name for pod in sight.pods if pod.marked}
        self._back &= drain.resume
        # Where nobody ever answers, nobody has stopped.
        done = drain.resume if self._answerless(crew) else self._back
        gone = done - marked
        returning = tuple(victim for victim in self.leaving if victim.pod in drain.resume - gone)
        return replace(drain, leaving=drain.leaving + returning, resume=drain.resume - gone)

    def _answerless(self, crew: Crew) -> bool:
        return self._unanswered >= SILENT_TICKS and bool(crew.heard)

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

    def without_drain(self, report: status.Report) -> status.Report:
        """The report of a tick that tells no worker anything, whatever was planned."""
        said = report.drain
        return replace(report, drain=Plan(leaving=self.leaving, reason=said.reason, message=said.message))


def _open_question(sight: Sight, policy: Policy, observation: Observation) -> bool:
    """Whether workers' answers may change the decision: they know of tasks what the broker does not tell."""
    demand, spec = observation.demand, observation.spec_replicas
    if demand.exact is not None or demand.high is None:
        return False
    least = max(policy.min_replicas, math.ceil(demand.low / policy.average_value))
    most = min(policy.max_replicas, math.ceil(demand.high / policy.average_value))
    return least < spec or not demand.low or (sight.unsettled(policy) and least == spec < most)
