"""Owns what is read off a run: from the moments of its pods, and the moment at which the work was done.

Pure. Seconds count from the first task. What did not happen within the run is None, never a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.e2e.course import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    first_up: float | None
    """The Deployment asks for more workers than the fewest."""
    at_most: float | None
    """As many workers ready as there may be."""
    done: float | None
    """The last task."""
    back: float | None
    """As many pods as the fewest, those that leave counted, and no more until the end."""
    pod_seconds: float | None
    """Of all pods, from the first task until the work is done and the pool is back."""
    others: dict[str, float] = field(default_factory=dict)
    """What only one of the loads has, by name."""


def figures(
    moments: Sequence[Moment],
    *,
    began: float,
    done: float | None,
    least: int,
    most: int,
    others: dict[str, float] | None = None,
) -> Figures:
    seen = [moment for moment in moments if moment.at >= began]
    back = _back(seen, least)
    end = max(done, back) if done is not None and back is not None else None
    return Figures(
        first_up=_since(began, next((moment.at for moment in seen if moment.replicas > least), None)),
        at_most=_since(began, next((moment.at for moment in seen if moment.ready >= most), None)),
        done=_since(began, done),
        back=_since(began, back),
        pod_seconds=None if end is None else _pod_seconds(seen, end),
        others=others or {},
    )


def _since(began: float, at: float | None) -> float | None:
    return None if at is None else at - began


def _back(seen: Sequence[Moment], least: int) -> float | None:
    """The first moment of the last stretch at the fewest, if the run ends in one and was ever above."""
    at = None
    for moment in reversed(seen):
        if moment.pods > least or moment.replicas > least:
            return at
        at = moment.at
    return None


def _pod_seconds(seen: Sequence[Moment], end: float) -> float:
    return sum(
        earlier.pods * (min(later.at, end) - earlier.at)
        for earlier, later in pairwise(seen)
        if earlier.at < end
    )
