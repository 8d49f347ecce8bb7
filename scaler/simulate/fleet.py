"""Our scaler over the model: the same `decide`, the same handshake, a poll at a time.

It owns what a tick of the loop is in the model: the demand is known exactly, workers that leave are told so
before they are asked what they hold, and a mark is seen by the tick after. What is decided and planned is
`scaler.pool.decision`'s and `scaler.pool.handshake`'s, as in the scaler.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from scaler.cluster import objects
from scaler.contract import Policy
from scaler.pool.count import Count
from scaler.pool.crew import Crew, crew_of, node_of
from scaler.pool.decision import Decision, Memory, Observation, decide
from scaler.pool.drain import DrainReason, Leaving
from scaler.pool.handshake import AGAIN_SECONDS, Scene, Step, step_of
from scaler.pool.step_limits import with_event
from scaler.simulate.site import Pod, Site
from scaler.workers.answers import Answers, Heard, Heartbeat, HeldTasks

NO_TASKS: Final[frozenset[str]] = frozenset()


class Fleet:
    def __init__(self, policy: Policy, *, poll_seconds: float, phase: float, random: Random) -> None:
        """`phase` is when it looks first."""
        self.next_at = phase
        self._policy = policy
        self._poll_seconds = poll_seconds
        self._random = random
        self._memory = Memory()
        self._leaving: tuple[Leaving, ...] = ()
        self._again_at = 0.0

    def act(self, site: Site) -> None:
        """One tick."""
        policy, earlier, spec = self._policy, self._memory, site.spec
        seen = Observation(
            at=site.now,
            queued=Count.exactly(site.queued),
            unacked=Count.exactly(site.unacked),
            spec_replicas=spec,
        )
        decision, memory = decide(policy, seen, earlier)
        replicas = spec
        if decision.desired_replicas != spec or self._leaving:
            replicas = self._carry_out(site, self._plan(site, decision))
        events = with_event(policy, earlier.scale_events, spec, replicas, site.now)
        self._memory = replace(memory, scale_events=events)
        # As the loop's: its jitter shortens a poll by up to a tenth.
        self.next_at += self._poll_seconds * self._random.uniform(0.9, 1)

    def _plan(self, site: Site, decision: Decision) -> Step:
        chosen = {victim.pod for victim in self._leaving}
        for pod in site.pods:
            if pod.name in chosen:
                site.stop(pod)
        deployment, pods = _deployment(site), [_seen(pod) for pod in site.pods]
        step = step_of(
            decision,
            Scene(
                at=site.now,
                policy=self._policy,
                deployment=deployment,
                pods=pods,
                crew=_crew(site, deployment, pods, leaving=chosen, slots=self._policy.concurrency),
                leaving=self._leaving,
                again_at=self._again_at,
                answerless=False,
                rests={},
                quiet_since=None,
            ),
        )
        if step.drain.reason is DrainReason.DEADLINE and self._leaving:
            window = self._policy.behavior.scale_down.stabilization_seconds
            self._again_at = site.now + max(AGAIN_SECONDS, window)
        return step

    def _carry_out(self, site: Site, step: Step) -> int:
        self._leaving = step.drain.leaving
        for pod in site.pods:
            if pod.name in step.drain.resume:
                pod.cost = 0
                site.resume(pod)
            elif pod.name in step.drain.mark:
                pod.cost = objects.VICTIM_COST
        if step.replicas != site.spec:
            site.scale(step.replicas)
        return step.replicas


def _deployment(site: Site) -> objects.Deployment:
    return objects.Deployment(
        name="workers",
        uid="workers",
        resource_version=1,
        spec_replicas=site.spec,
        replicas=sum(not pod.terminating for pod in site.pods),
        foreign_owner=None,
    )


def _seen(pod: Pod) -> objects.Pod:
    return objects.Pod(
        name=pod.name,
        uid=pod.name,
        deployment="workers",
        replica_set="workers-1",
        created_at=pod.created_at,
        running_since=pod.created_at if pod.ready else None,
        assigned=True,
        ready=pod.ready,
        terminating=pod.terminating,
        deletion_cost=pod.cost,
    )


def _crew(
    site: Site,
    deployment: objects.Deployment,
    pods: list[objects.Pod],
    *,
    leaving: set[str],
    slots: int,
) -> Crew:
    """Every worker that has started sends heartbeats and answers at once."""
    tasks = site.held()
    ready = [pod for pod in site.pods if pod.ready]
    beats, answers = {}, {}
    for pod in ready:
        running = frozenset(map(str, tasks.get(pod, ())))
        beats[node_of(pod.name)] = Heartbeat(at=site.now, active=len(running), processed=0, offline=False)
        answers[pod.name] = HeldTasks(
            running=running, acknowledged=NO_TASKS, reserved=NO_TASKS, scheduled=0, next_due=None
        )
    return crew_of(
        pods,
        replicas=deployment.replicas,
        slots=slots,
        heard=Heard(since=0.0, last=beats),
        answers=Answers(
            asked=frozenset(answers),
            stopped=frozenset(pod.name for pod in ready if pod.stopped),
            tasks=answers,
        ),
        leaving=leaving,
        held=NO_TASKS,
        rests={},
        quiet_since=None,
        at=site.now,
    )
