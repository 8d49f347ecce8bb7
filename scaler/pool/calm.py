"""The stabilization windows of `behavior`: what was asked for lately counts as well as what is asked for now.

It owns the wishes that the windows look back on. It reads no clock, and what it keeps does not outlive the
process: docs/decisions/0003-what-the-scaler-remembers.md.

`scaler.pool.decision` asks it after the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaler.contract import Behavior, ScalingRules


@dataclass(frozen=True, slots=True)
class Wish:
    """A number of replicas that the demand asked for without a break from `since` to `until`."""

    replicas: int
    since: float
    until: float


def with_wish(
    behavior: Behavior, wishes: tuple[Wish, ...], replicas: int, wish: int, at: float
) -> tuple[Wish, ...]:
    """The wishes that a window still needs, with the one of now; where there were none, with `replicas`."""
    if not wishes:
        wishes = (Wish(replicas, at, at),)
    last = wishes[-1]
    if last.replicas == wish:
        wishes = (*wishes[:-1], Wish(wish, last.since, at))
    else:
        wishes = (*wishes, Wish(wish, at, at))
    window = max(behavior.scale_up.stabilization_seconds, behavior.scale_down.stabilization_seconds)
    return tuple(past for past in wishes if past.until > at - window or past is wishes[-1])


def lowest(rules: ScalingRules, wishes: tuple[Wish, ...], at: float) -> int:
    return min(wish.replicas for wish in _within(rules, wishes, at))


def highest(rules: ScalingRules, wishes: tuple[Wish, ...], at: float) -> int:
    return max(wish.replicas for wish in _within(rules, wishes, at))


def _within(rules: ScalingRules, wishes: tuple[Wish, ...], at: float) -> tuple[Wish, ...]:
    begin = at - rules.stabilization_seconds
    return tuple(wish for wish in wishes if wish.until > begin) or wishes[-1:]
