"""One word for how a pool is doing: what `python -m scaler status` and the scaler's page show first.

It owns the words and which of them wins where several are true. It is told by a stored status or by a report
of this tick, which agree: a report's document is what is stored. It talks to nobody and reads no clock.

The reasons are `scaler.pool.decision`'s, the status is `scaler.pool.status`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from scaler.pool.decision import HOLDS, Reason
from scaler.pool.status import Document, Report


class State(StrEnum):
    PAUSED = "Paused"
    HOLD = "Hold"
    DRAINING = "Draining"
    LIMITED = "Limited"
    ACTIVE = "Active"
    IDLE = "Idle"


def state(*, reason: str | None, leaving: bool, limited: bool, idle: bool) -> State:
    """The first of these that is true.

    1. Paused: the object says so.
    2. Hold: nothing was decided (`reason` is None), something is unknown, or somebody else decides.
    3. Draining: workers are leaving.
    4. Limited: the demand asks for more than bounds or step limits allow.
    5. Idle: certainly nothing is due or running. Else Active: what may be there is not nothing.
    """
    if reason == Reason.PAUSED:
        return State.PAUSED
    if reason is None or reason in HOLDS:
        return State.HOLD
    if leaving:
        return State.DRAINING
    if limited:
        return State.LIMITED
    return State.IDLE if idle else State.ACTIVE


def state_in(status: Document) -> State:
    """Of a stored status; an object without one is on hold, for nobody decides about it."""
    decision = status.get("decision")
    reason = decision.get("reason") if isinstance(decision, Mapping) else None
    return state(
        reason=reason if isinstance(reason, str) else None,
        leaving=bool(status.get("draining")),
        limited=_condition(status, "ScalingLimited") == "True",
        idle=_condition(status, "Active") == "False",
    )


def state_of(report: Report) -> State:
    """Of what this tick has to say."""
    decision = report.decision
    return state(
        reason=decision.reason if decision else None,
        leaving=bool(report.drain.leaving),
        limited=decision is not None and decision.limited,
        idle=report.demand.exact == 0,
    )


def _condition(status: Document, kind: str) -> object:
    conditions = status.get("conditions")
    for item in conditions if isinstance(conditions, list) else []:
        if isinstance(item, Mapping) and item.get("type") == kind:
            return item.get("status")
    return None
