"""Which workers leave, and when: the handshake of a scale-in as a pure function.

`plan` owns the order of steps that keeps a running task from being killed. It chooses the victims,
says which of them must stop consuming, waits until they have nothing left, has them marked, and lets
the replicas fall only when the ReplicaSet can but take exactly the marked pods. It refuses to remove a
pod of which something is unknown. It sends nothing: `scaler.workers.control` speaks to the workers,
`scaler.cluster.client` to Kubernetes, and `scaler.loop` carries `Leaving` from tick to tick on the object's
status, so that the next scaler finishes or undoes what this one began.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from scaler.pool.count import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One pod of the pool's Deployment, with what its Celery worker said."""

    pod: str
    created_at: float
    replica_set: str
    tasks: Count
    """Running, and prefetched and due. A worker that does not answer has `UNKNOWN` tasks."""
    stopped: bool = False
    """It said that it consumes from none of the pool's queues."""
    settled: bool = True
    """Scheduled, running and ready. The ReplicaSet removes a pod that is not before it looks at costs."""
    terminating: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Leaving:
    """A victim, and since when."""

    pod: str
    since: float


class DrainReason(StrEnum):
    """Reasons of the condition Draining."""

    NOT_DRAINING = "NotDraining"
    WAITING_FOR_TASKS = "WaitingForTasks"
    WAITING_FOR_PODS = "WaitingForPods"
    ROLLING_OUT = "RollingOut"
    TAKEN_BACK = "TakenBack"
    DEADLINE = "DrainDeadline"
    REMOVING = "Removing"
    DEMAND_UNKNOWN = "DemandUnknown"
    WORKERS_SILENT = "WorkersSilent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one tick does about the workers that leave, in this order."""

    leaving: tuple[Leaving, ...] = ()
    """To be on the status before anything below is sent."""
    stop: frozenset[str] = frozenset()
    """Pods to send `cancel_consumer`, on every tick: a worker that restarted consumes again."""
    resume: frozenset[str] = frozenset()
    """Pods to send `add_consumer` and to take the mark from."""
    mark: frozenset[str] = frozenset()
    """Drained pods that do not carry the mark yet."""
    remove: int = 0
    """By how many `/scale` falls: all of them are marked, and nothing else can be taken."""
    reason: DrainReason = DrainReason.NOT_DRAINING
    message: str = "no worker is leaving"


class Outcome(StrEnum):
    """How a drain ended, for one worker."""

    REMOVED = "removed"
    TAKEN_BACK = "taken_back"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Ended:
    """A drain that ended in this tick."""

    pod: str
    seconds: float
    outcome: Outcome


def ended(
    leaving: tuple[Leaving, ...],
    planned: Plan,
    *,
    returning: Collection[str],
    living: Collection[str],
    at: float,
) -> tuple[Ended, ...]:
    """Which of the drains until now ended by this plan; those of `returning` have ended before."""
    kept = Outcome.DEADLINE if planned.reason is DrainReason.DEADLINE else Outcome.TAKEN_BACK
    return tuple(
        Ended(victim.pod, max(0.0, at - victim.since), kept if victim.pod in living else Outcome.REMOVED)
        for victim in leaving
        if victim.pod not in returning and (victim.pod in planned.resume or victim.pod not in living)
    )


def plan(
    workers: Collection[Worker],
    leaving: tuple[Leaving, ...],
    *,
    excess: int,
    at: float,
    deadline_seconds: float,
    rolling_out: bool = False,
    let_go: frozenset[str] = frozenset(),
) -> Plan:
    """Plan one tick of a pool that has `excess` workers more than desired (0 or less: none).

    1. Those that are gone or terminating are no longer leaving. Those of `let_go` may be taken at any moment:
       whatever is decided, they stay stopped and marked, and are not removed a second time.
    2. No excess, a roll-out in progress, or a victim past the deadline: the victims are taken back.
       A deadline cancels the drain, it does not kill.
    3. Victims: as many as there is excess, those with the fewest tasks, then the youngest; of those
       chosen before, the busiest is given back first. A worker that does not answer is never chosen.
    4. Victims stop consuming; one that said so and has nothing left is drained, and is marked: but for the
       time in which others go, for a ReplicaSet that is slow would take it in their stead.
    5. Marked pods go when every other pod would be taken after them.
    """
    present = {worker.pod: worker for worker in workers if not worker.terminating}
    staying = tuple(victim for victim in leaving if victim.pod in present)
    if excess <= 0:
        sentence = "the demand needs every worker again"
        return _take_back(present, staying, let_go, DrainReason.TAKEN_BACK, sentence)
    if rolling_out or len({worker.replica_set for worker in workers}) > 1:
        sentence = "no scale-in during a roll-out"
        return _take_back(present, staying, let_go, DrainReason.ROLLING_OUT, sentence)
    held = [victim for victim in staying if victim.pod not in let_go]
    late = [victim.pod for victim in held if at - victim.since > deadline_seconds]
    if late:
        sentence = f"{', '.join(late)} still had tasks after {deadline_seconds:.0f} s"
        return _take_back(present, staying, let_go, DrainReason.DEADLINE, sentence)

    victims = _choose(present, staying, let_go, excess, at)
    names = frozenset(victim.pod for victim in victims)
    resume = frozenset(victim.pod for victim in staying) - names
    drained = frozenset(pod for pod in names if _drained(present[pod]))
    marked = frozenset(pod for pod in drained if present[pod].marked)
    blocking = sorted(
        pod for pod, worker in present.items() if pod not in marked and (not worker.settled or worker.marked)
    )
    reason, message = _say(present, names, marked, blocking)
    remove = 0 if blocking else len(marked - let_go)
    return Plan(
        leaving=victims,
        stop=names,
        resume=resume,
        mark=frozenset() if remove or let_go else drained - marked,
        remove=remove,
        reason=reason,
        message=message,
    )


def _take_back(
    present: dict[str, Worker],
    leaving: tuple[Leaving, ...],
    let_go: frozenset[str],
    reason: DrainReason,
    message: str,
) -> Plan:
    marked = {pod for pod, worker in present.items() if worker.marked}
    resume = (frozenset(victim.pod for victim in leaving) | marked) - let_go
    gone = tuple(victim for victim in leaving if victim.pod in let_go)
    if not resume and not gone and reason is not DrainReason.ROLLING_OUT:
        return Plan(leaving=())
    stop = frozenset(victim.pod for victim in gone)
    return Plan(leaving=gone, stop=stop, resume=resume, reason=reason, message=message)


def _choose(
    present: dict[str, Worker],
    staying: tuple[Leaving, ...],
    let_go: frozenset[str],
    excess: int,
    at: float,
) -> tuple[Leaving, ...]:
    def by_tasks(worker: Worker) -> tuple[int, float]:
        return (10**9 if worker.tasks.high is None else worker.tasks.high, -worker.created_at)

    def let_go_first(victim: Leaving) -> tuple[bool, bool, int, float]:
        worker = present[victim.pod]
        return (victim.pod not in let_go, not worker.marked, *by_tasks(worker))

    kept = sorted(staying, key=let_go_first)[:excess]
    chosen = {victim.pod for victim in staying}
    candidates = sorted(
        (
            worker
            for worker in present.values()
            if worker.pod not in chosen and worker.settled and worker.tasks.high is not None
        ),
        key=by_tasks,
    )
    return (*kept, *(Leaving(worker.pod, at) for worker in candidates[: excess - len(kept)]))


def _drained(worker: Worker) -> bool:
    return worker.stopped and worker.tasks.high == 0


def _say(
    present: dict[str, Worker], names: frozenset[str], marked: frozenset[str], blocking: list[str]
) -> tuple[DrainReason, str]:
    if not names:
        return DrainReason.WAITING_FOR_PODS, "no worker can be chosen: none of them is ready and answers"
    if marked and not blocking:
        return DrainReason.REMOVING, f"{', '.join(sorted(marked))} finished, to be removed now"
    busy = sorted(pod for pod in names if not _drained(present[pod]))
    if busy:
        left = ", ".join(f"{pod} ({present[pod].tasks})" for pod in busy)
        return DrainReason.WAITING_FOR_TASKS, f"waiting for the tasks of {left}"
    if not marked:
        return DrainReason.REMOVING, f"{', '.join(sorted(names))} finished, to be marked for removal"
    others = ", ".join(blocking)
    return DrainReason.WAITING_FOR_PODS, f"{others} would be removed first: waiting until it is ready"
