"""The last hour of one pool, in 12 bytes a point, and its changes of the replicas, in 16: for the chart.

It owns how the past is kept small. A point is made only where something changed, so a pool that sleeps costs
nothing; where there are more points than may be, neighbours become one and the higher demand stays. What was
not known is kept as that, and so is a time in which nobody looked. It reads no clock.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from typing import Any, Final

HOUR_SECONDS: Final = 3600
LEAST_SECONDS: Final = 600
_UNKNOWN_DEMAND: Final = 2**32 - 1
_UNKNOWN_REPLICAS: Final = 2**16 - 1


class Marks:
    """When the replicas were written in the last hour, from what to what."""

    __slots__ = ("_after", "_before", "_times")

    def __init__(self) -> None:
        self._times = array("d")
        self._before = array("I")
        self._after = array("I")

    def add(self, at: float, scaled: tuple[int, int] | None, *, most: int) -> None:
        """One tick; at most `most` marks stay, the newest."""
        if scaled is not None and not (self._times and at < self._times[-1]):  # a clock that was set back
            self._times.append(at)
            self._before.append(scaled[0])
            self._after.append(scaled[1])
        old = max(bisect_right(self._times, at - HOUR_SECONDS), len(self._times) - most)
        if old > 0:
            for values in (self._times, self._before, self._after):
                del values[:old]

    def since(self, at: float | None = None) -> dict[str, list[Any]]:
        """Those after a time, or all: lists of the same length."""
        first = 0 if at is None else bisect_right(self._times, at)
        return {
            "at": list(self._times[first:]),
            "from": list(self._before[first:]),
            "to": list(self._after[first:]),
        }


class Track:
    __slots__ = ("_demand", "_desired", "_ready", "_start", "_times", "until")

    def __init__(self) -> None:
        self._start = 0.0
        """Times are kept in tenths of a second after the first tick."""
        self._times = array("I")
        self._demand = array("I")
        self._desired = array("H")
        self._ready = array("H")
        self.until = -math.inf
        """The last point holds until this time."""

    def __len__(self) -> int:
        return len(self._times)

    def add(
        self,
        at: float,
        *,
        demand: int | None,
        desired: int | None,
        ready: int | None,
        longest_gap: float,
        most: int,
    ) -> None:
        """One tick. A gap above `longest_gap` seconds shows as unknown; at most `most` points stay."""
        if at < self.until:
            return  # the clock was set back: the chart waits until it has caught up
        if not len(self):
            self._start = at
        if len(self) and at - self.until > longest_gap:
            self._append(self.until, _UNKNOWN_DEMAND, _UNKNOWN_REPLICAS, _UNKNOWN_REPLICAS)
        self._append(
            at,
            _UNKNOWN_DEMAND if demand is None else min(demand, _UNKNOWN_DEMAND - 1),
            _UNKNOWN_REPLICAS if desired is None else desired,
            _UNKNOWN_REPLICAS if ready is None else min(ready, _UNKNOWN_REPLICAS - 1),
        )
        self.until = at
        self._forget(at)
        if len(self) > most:
            self._thin()
        if len(self) > most:
            self._cut(len(self) - most * 3 // 4)

    def since(self, at: float | None = None) -> dict[str, Any]:
        """The points after a time, or all: lists of the same length. A point holds until the next one."""
        first = 0
        if at is not None:
            mark = self._tenths(at)
            first = next((index for index, time in enumerate(self._times) if time > mark), len(self))
        return {
            "at": [round(self._start + time / 10, 1) for time in self._times[first:]],
            "demand": [None if each == _UNKNOWN_DEMAND else each for each in self._demand[first:]],
            "desired": [None if each == _UNKNOWN_REPLICAS else each for each in self._desired[first:]],
            "ready": [None if each == _UNKNOWN_REPLICAS else each for each in self._ready[first:]],
            "until": round(self.until, 1) if len(self) else None,
        }

    def peaks(self, at: float, pieces: int) -> list[int | None]:
        """The highest demand known in each of the hour's equal pieces, the newest last; of a young pool, of
        the time since it is followed, which is taken for ten minutes where it is less."""
        span = min(HOUR_SECONDS, max(LEAST_SECONDS, at - self._start))
        length = span / pieces
        begin = at - span
        found: list[int | None] = [None] * pieces
        for index, demand in enumerate(self._demand):
            if demand == _UNKNOWN_DEMAND:
                continue
            starts = self._start + self._times[index] / 10
            ends = self._start + self._times[index + 1] / 10 if index + 1 < len(self) else self.until
            first = max(0, int((starts - begin) / length))
            last = min(pieces - 1, max(first, math.ceil((ends - begin) / length) - 1))
            for piece in range(first, last + 1):
                was = found[piece]
                found[piece] = demand if was is None else max(was, demand)
        return found

    def _tenths(self, at: float) -> int:
        return max(0, round((at - self._start) * 10))

    def _append(self, at: float, demand: int, desired: int, ready: int) -> None:
        if len(self) and (self._demand[-1], self._desired[-1], self._ready[-1]) == (demand, desired, ready):
            return
        self._times.append(self._tenths(at))
        self._demand.append(demand)
        self._desired.append(desired)
        self._ready.append(ready)

    def _forget(self, at: float) -> None:
        """Drop what ended more than an hour ago, a minute's worth at a time."""
        begin = self._tenths(at - HOUR_SECONDS)
        if len(self) > 1 and self._times[1] + 600 < begin:
            self._cut(sum(1 for time in self._times if time <= begin) - 1)

    def _cut(self, number: int) -> None:
        for values in (self._times, self._demand, self._desired, self._ready):
            del values[: max(0, number)]

    def _thin(self) -> None:
        """Make one point of two neighbours, where both are known; what is not known must not spread or go."""
        kept = 0
        index = 0
        while index < len(self):
            demand, last = self._demand[index], index
            following = index + 1
            if (
                following < len(self) - 2  # the newest may have been sent already
                and _UNKNOWN_DEMAND not in (demand, self._demand[following])
                and _UNKNOWN_REPLICAS not in (self._desired[index], self._desired[following])
            ):
                demand, last = max(demand, self._demand[following]), following
            self._times[kept] = self._times[index]
            self._demand[kept] = demand
            self._desired[kept] = self._desired[last]
            self._ready[kept] = self._ready[last]
            kept += 1
            index = last + 1
        for values in (self._times, self._demand, self._desired, self._ready):
            del values[kept:]
