"""Workers that `/scale` has let go, and that the ReplicaSet has not taken yet: none of them comes back.

It owns for how long that is so, and from when on marks can be relied on. A ReplicaSet acts on what its
controller has seen, which on a busy control plane is more than a second old. Between the two writes, a worker
that consumes again is taken with the task that it just began; one that loses its mark is taken all the same,
or a busy one is in its stead. So it stays stopped and marked until it is gone, or until so much time has
passed that nobody takes it any more.

A new scaler cannot know whether the one before it has let go a marked worker, and takes it that it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from scaler.cluster.objects import Deployment, Pod
from scaler.pool.drain import Leaving

LET_GO_SECONDS: Final = 10.0
"""Time after which a ReplicaSet that has as many pods as it should is sure to take none of them."""
MARK_SECONDS: Final = 1.0
"""How old the newest mark must be before `/scale` falls. Both reach the controller by watches of their own,
of which none should be ahead of the other by as much."""


class LetGo:
    """What one pool remembers of it. Its methods take the time of the tick, in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._before = self._since
        self._marked: frozenset[str] = frozenset()
        self._wrote_at = -math.inf

    @property
    def pods(self) -> frozenset[str]:
        return frozenset(self._since)

    def restore(self, leaving: Iterable[Leaving]) -> None:
        """Begin with an earlier scaler's victims."""
        self._since = {victim.pod: math.inf for victim in leaving}

    def look(self, pods: Sequence[Pod], deployment: Deployment, at: float) -> None:
        """Forget those that are gone, have no mark, or would have been taken by now."""
        living = [pod for pod in pods if not pod.terminating]
        # Until its controller has seen them, new replicas look like a roll-out, too.
        unseen = deployment.rolling_out or len(living) > deployment.spec_replicas
        self._marked = frozenset(pod.name for pod in living if pod.marked)
        self._since = {
            pod: at if unseen else min(since, at)
            for pod, since in self._since.items()
            if pod in self._marked and (unseen or at - since <= LET_GO_SECONDS)
        }

    def wrote_mark(self, at: float) -> None:
        """A mark has been set or taken off."""
        self._wrote_at = at

    def marks_are_seen(self, at: float) -> bool:
        """Whether the controller can be taken to know all marks as they are."""
        return at - self._wrote_at >= MARK_SECONDS

    def lower(self, at: float) -> None:
        """`/scale` is about to fall: any marked pod may be taken from now on."""
        self._before = self._since
        self._since = self._since | dict.fromkeys(self._marked, at)

    def refused(self) -> None:
        """It did not fall: as before `lower`."""
        self._since = self._before
