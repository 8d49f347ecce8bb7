"""The model of one pool: a queue, workers with slots that take its tasks, and the pods that come and go.

It owns what happens between two acts of an autoscaler: tasks arrive, slots take the oldest one that waits,
pods start and end. A worker takes no task before a slot is free for it (no prefetch), and acknowledges it
when it is done (acks_late), so a task whose worker is killed comes back when its visibility timeout is over.
It decides nothing and draws no chance of its own.

A pod that is taken away finishes what it has within its grace period; what it has not finished by then is
killed. `fleet` and `hpa` act on it. Times are seconds from the begin of the load.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

from scaler.simulate.load import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What pods of the pool are like."""

    slots: int = 1
    start_seconds: float = 8.0
    """From the write of the replicas until a new worker takes tasks."""
    stop_seconds: float = 2.0
    """From the last task of a pod that is taken away until it is gone."""
    grace_seconds: float = 30.0
    visibility_seconds: float = 3600.0


@dataclass(eq=False, slots=True)
class Pod:
    name: str
    created_at: float
    ready: bool = False
    stopped: bool = False
    """Told to take no more tasks."""
    terminating: bool = False
    cost: int = 0
    gone_at: float = math.inf
    taking: bool = False
    """Ready, not stopped and not terminating."""


@dataclass(slots=True)
class Course:
    """What came of it."""

    replicas: list[tuple[float, int]] = field(default_factory=list)
    """Each change of what the Deployment asks for."""
    workers: list[tuple[float, int]] = field(default_factory=list)
    """Each change of the number of workers that take tasks."""
    demand: list[tuple[float, int]] = field(default_factory=list)
    """Tasks to do, whenever an autoscaler looked."""
    removed_busy: int = 0
    """Workers that were taken away with a task."""
    killed: int = 0
    """Tasks that their worker did not finish in its grace period."""


class Site:
    def __init__(self, load: Load, workers: Workers, replicas: int) -> None:
        self.now = 0.0
        self.spec = 0
        self.pods: list[Pod] = []
        """Those that are not gone."""
        self.past: list[Pod] = []
        """Those that are."""
        self.course = Course()
        self.started: list[float] = [math.nan] * len(load.arrivals)
        """When each task was taken; a killed one, the last time."""
        self.done: list[float] = [math.nan] * len(load.arrivals)
        self.finished = 0
        self._load = load
        self._workers = workers
        self._next = 0
        self._waiting: deque[int] = deque()
        self._running: list[tuple[float, int, Pod]] = []
        self._idle: deque[Pod] = deque()
        """A pod once for each free slot, the longest free first, as Redis serves who blocks on a list."""
        self._changes: list[tuple[float, int, Callable[[], None]]] = []
        self._given_back: list[int] = []
        self._numbers = itertools.count()
        self.scale(replicas)
        for pod in self.pods:
            self._become_ready(pod)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def unacked(self) -> int:
        """Messages of running tasks; those of killed ones do not count, as stranded ones never do."""
        return len(self._running)

    @property
    def all_done(self) -> bool:
        return self.finished == len(self.started)

    def held(self) -> dict[Pod, list[int]]:
        """The tasks of each busy worker."""
        tasks: dict[Pod, list[int]] = {}
        for _, task, pod in self._running:
            tasks.setdefault(pod, []).append(task)
        return tasks

    def advance(self, until: float) -> None:
        """Let everything happen that happens until then."""
        while self._changes and self._changes[0][0] <= until:
            at, _, change = heappop(self._changes)
            self._work(at)
            self.now = at
            change()
        self._work(until)
        self.now = until

    def scale(self, replicas: int) -> None:
        """Write the replicas; the ReplicaSet makes pods or takes some away at once."""
        if replicas != self.spec or not self.course.replicas:
            self.course.replicas.append((self.now, replicas))
        self.spec = replicas
        living = [pod for pod in self.pods if not pod.terminating]
        for _ in range(replicas - len(living)):
            self._create()
        # Its order: not ready, cost, the youngest (kubernetes.io, "ReplicaSet: scaling a ReplicaSet").
        living.sort(key=lambda pod: (pod.ready, pod.cost, -pod.created_at))
        for pod in living[: max(0, len(living) - replicas)]:
            self._take_away(pod)

    def stop(self, pod: Pod) -> None:
        """Have a worker take no more tasks; it finishes those it has."""
        pod.stopped = True
        self._settle(pod)

    def resume(self, pod: Pod) -> None:
        pod.stopped = False
        self._settle(pod)

    def _create(self) -> None:
        pod = Pod(name=f"worker-{next(self._numbers)}", created_at=self.now)
        self.pods.append(pod)
        self._at(self.now + self._workers.start_seconds, lambda: self._become_ready(pod))

    def _become_ready(self, pod: Pod) -> None:
        pod.ready = True
        self._settle(pod)
        self._return_given_back()

    def _settle(self, pod: Pod) -> None:
        """Draw the consequence of what a pod is now."""
        taking = pod.ready and not pod.stopped and not pod.terminating
        if taking == pod.taking:
            return
        pod.taking = taking
        if taking:
            self._idle.extend([pod] * (self._workers.slots - len(self.held().get(pod, ()))))
            self._fill()
        else:
            self._idle = deque(each for each in self._idle if each is not pod)
        self.course.workers.append((self.now, sum(each.taking for each in self.pods)))

    def _take_away(self, pod: Pod) -> None:
        pod.terminating = True
        self._settle(pod)
        deadline = self.now + self._workers.grace_seconds
        ends = [done for done, _, holder in self._running if holder is pod]
        self.course.removed_busy += bool(ends)
        pod.gone_at = max([self.now, *(min(end, deadline) for end in ends)]) + self._workers.stop_seconds
        self._at(pod.gone_at, lambda: self._leave(pod))
        if max(ends, default=0.0) > deadline:
            self._kill(pod, deadline)

    def _kill(self, pod: Pod, deadline: float) -> None:
        lost = [task for done, task, holder in self._running if holder is pod and done > deadline]
        self._running = [entry for entry in self._running if entry[2] is not pod or entry[0] <= deadline]
        heapify(self._running)
        self.course.killed += len(lost)
        for task in lost:
            self._at(self.started[task] + self._workers.visibility_seconds, self._giving_back(task))

    def _giving_back(self, task: int) -> Callable[[], None]:
        def give_back() -> None:
            self._given_back.append(task)
            self._return_given_back()

        return give_back

    def _return_given_back(self) -> None:
        """Only a living consumer restores messages, and it puts them in front (kombu, transport/redis.py)."""
        if self._given_back and any(pod.taking for pod in self.pods):
            self._waiting.extendleft(self._given_back)
            self._given_back = []
            self._fill()

    def _leave(self, pod: Pod) -> None:
        self.pods.remove(pod)
        self.past.append(pod)

    def _at(self, at: float, change: Callable[[], None]) -> None:
        heappush(self._changes, (max(at, self.now), next(self._numbers), change))

    def _fill(self) -> None:
        while self._waiting and self._idle:
            task, pod = self._waiting.popleft(), self._idle.popleft()
            self.started[task] = self.now
            heappush(self._running, (self.now + self._load.services[task], task, pod))

    def _work(self, until: float) -> None:
        """Arrivals and ends in the order of their times; a hundred thousand tasks go through this loop."""
        arrivals, services, count = self._load.arrivals, self._load.services, len(self.started)
        running, waiting, idle, started, done = (
            self._running,
            self._waiting,
            self._idle,
            self.started,
            self.done,
        )
        task = self._next
        while True:
            arrival = arrivals[task] if task < count else math.inf
            end = running[0][0] if running else math.inf
            if arrival <= end:
                if arrival > until or arrival == math.inf:
                    break
                if idle:
                    started[task] = arrival
                    heappush(running, (arrival + services[task], task, idle.popleft()))
                else:
                    waiting.append(task)
                task += 1
                continue
            if end > until:
                break
            _, ended, pod = running[0]
            done[ended] = end
            self.finished += 1
            if not pod.taking:
                heappop(running)
            elif waiting:
                following = waiting.popleft()
                started[following] = end
                heapreplace(running, (end + services[following], following, pod))
            else:
                heappop(running)
                idle.append(pod)
        self._next = task
