"""One decision as it was computed: its steps in the order in which they were taken, each with its numbers.

It owns the steps' shape, the sentence that a step is for a reader, and the form that JSON takes. The steps
are made by `scaler.pool.decision` as it decides and hang on the `Decision`; nothing is formatted until
somebody asks. It decides nothing, talks to nobody and reads no clock.

hold        somebody else decides, then it is the only step: `message`
demand      always but in a hold: the counts `queued`, `unacked`, `active`, and their sum `demand`
wish        with demand: `averageValue`; the replicas `atLeast` and `atMost` (None: no bound);
            `dueInSeconds` (None: nothing is due soon)
unknown     where no upper bound of the demand is known and its lower one asks for no more than there are
tolerance   where the wish differs from the replicas, and they are not 0: the demands `from` and `to`
            between which nothing changes
calm        where the wish still differs, and no bound decides alone: `seconds`, `of` (highest or lowest),
            and `limit`, the wish that counts
stepLimits  where it differs after that: `limit` (None: there is none)
bounds      always but in a hold, the last: `minReplicas`, `maxReplicas`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from scaler.pool.count import Count


class Rule(StrEnum):
    HOLD = "hold"
    DEMAND = "demand"
    WISH = "wish"
    UNKNOWN = "unknown"
    TOLERANCE = "tolerance"
    CALM = "calm"
    STEP_LIMITS = "stepLimits"
    BOUNDS = "bounds"


class Step(NamedTuple):
    rule: Rule
    before: int
    """Replicas asked for until this step: at first those that there are."""
    after: int
    """And from it on: after the last step, the decision's."""
    figures: Mapping[str, Any]
    """What the step reckoned with: whole numbers, seconds, `Count`s, or None for what is not known."""


def document(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The steps as plain JSON: a count is a number where it is certain, else `[low, high or null]`."""
    return [
        {
            "rule": step.rule.value,
            "before": step.before,
            "after": step.after,
            "figures": {name: _plain(figure) for name, figure in step.figures.items()},
            "sentence": sentence(step),
        }
        for step in steps
    ]


def plain(count: Count) -> int | list[int | None]:
    """A count as JSON has it: the number where it is certain, else its bounds."""
    return count.low if count.exact is not None else [count.low, count.high]


def sentence(step: Step) -> str:
    """What the step reckoned, for people; where it led to is `before` and `after`."""
    figures = step.figures
    match step.rule:
        case Rule.HOLD:
            return str(figures["message"])
        case Rule.DEMAND:
            return (
                f"{figures['queued']} queued + {figures['unacked']} unacked + {figures['active']} running "
                f"and acknowledged = {figures['demand']}"
            )
        case Rule.WISH:
            return _wish(figures)
        case Rule.UNKNOWN:
            return "no upper bound of the demand is known: not fewer than there are"
        case Rule.TOLERANCE:
            return f"a demand from {figures['from']:g} to {figures['to']:g} changes nothing"
        case Rule.CALM if not figures["seconds"]:
            return "behavior looks back on no earlier wishes"
        case Rule.CALM:
            return f"the {figures['of']} wish of the last {figures['seconds']} s is {figures['limit']}"
        case Rule.STEP_LIMITS:
            limit = figures["limit"]
            return "behavior sets no limit" if limit is None else f"behavior allows {limit} for now"
        case Rule.BOUNDS:
            return f"not below {figures['minReplicas']}, not above {figures['maxReplicas']}"


def _wish(figures: Mapping[str, Any]) -> str:
    at_least, at_most = figures["atLeast"], figures["atMost"]
    asked = str(at_least)
    if at_most is None:
        asked = f"at least {at_least}"
    elif at_most != at_least:
        asked = f"{at_least} to {at_most}"
    soon = figures["dueInSeconds"]
    due = "" if soon is None else f"; one is due in {soon:.0f} s: at least 1"
    return f"at {figures['averageValue']} a worker, rounded up, that asks for {asked}{due}"


def _plain(figure: Any) -> Any:
    return plain(figure) if isinstance(figure, Count) else figure
