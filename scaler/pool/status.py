"""The status of a `Celery` object: what the scaler reports there, and what it remembers there.

It owns the document's shape, when a change of it is urgent, and the way back from a stored status to the
decision's `Memory`. What is unknown is absent, never 0. It reads no clock and writes nothing.

The CRD's schema of the same document is in `infra.components.fleet_objects`; `scaler.loop` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from scaler.contract import MAX_SCALE_EVENTS, Ready
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Decision, Memory, Observation, Reason
from scaler.pool.drain import DrainReason, Ended, Leaving, Plan
from scaler.pool.flow import Flow
from scaler.pool.step_limits import ScaleEvent
from scaler.rfc3339 import seconds_of, text_of

Document = Mapping[str, Any]

FIELDS: Final = (
    "observedGeneration",
    "replicas",
    "desiredReplicas",
    "queued",
    "unacked",
    "active",
    "notDue",
    "nextDueTime",
    "capacity",
    "stranded",
    "calmSince",
    "scaleEvents",
    "draining",
    "lastScaleTime",
    "decision",
    "conditions",
)
"""What the scaler writes; any other field of a stored status is kept as it is."""

SHADOW: Final = "Shadow"

_STEADY: Final[Mapping[str, str]] = {
    Reason.DEMAND_MET: "Steady",
    Reason.WITHIN_TOLERANCE: "Steady",
    DrainReason.WAITING_FOR_TASKS: "Leaving",
    DrainReason.REMOVING: "Leaving",
}
"""Reasons between which a steady load flickers, and a drain goes on: such a change alone is no news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one tick has to say about one object."""

    generation: int
    ready: Ready
    ready_message: str
    replicas: int | None
    queued: Count
    """All messages in the queues, due or not."""
    unacked: Count
    """All messages that are delivered and not acknowledged."""
    decision: Decision | None
    memory: Memory
    last_scale_at: float | None = None
    demand: Count = UNKNOWN
    not_due: Count = UNKNOWN
    next_due: float | None = None
    active: int | None = None
    """Tasks that run."""
    stranded: int | None = None
    """Messages whose worker is gone."""
    capacity: int | None = None
    drain: Plan = field(default_factory=Plan)
    observation: Observation | None = None
    """What the decision was made of."""
    ended: tuple[Ended, ...] = ()
    """Drains that ended in this tick."""
    flow: Flow | None = None
    shadow: bool = False
    """What is decided is said, and not done."""
    drift: str = ""
    """How the Deployment differs from the object; "" where it does not."""

    @property
    def news(self) -> tuple[str, str]:
        """What is worth an event when it changes."""
        decision = self.decision
        if decision is None:
            return self.ready, ""
        # In shadow no change of the replicas tells what is wished for, so each new wish is news.
        wishes = self.shadow and decision.reason is not Reason.PAUSED
        wish = f" {decision.desired_replicas}" if wishes else ""
        return self.ready, f"{reason_class(decision.reason)}{wish}"


def reason_class(reason: str) -> str:
    return _STEADY.get(reason, reason)


def document(report: Report, earlier: Document, at: float) -> dict[str, Any]:
    """The status to store. Conditions that did not change keep the time of `earlier`.

    What is unknown is left out, and so is gone from the stored status.
    """
    fields: dict[str, Any] = {
        **{name: value for name, value in earlier.items() if name not in FIELDS},
        "observedGeneration": report.generation,
        "replicas": report.replicas,
        "queued": report.queued.exact,
        "unacked": report.unacked.exact,
        "active": report.active,
        "notDue": report.not_due.exact,
        "nextDueTime": _time(report.next_due),
        "capacity": report.capacity,
        "stranded": report.stranded,
        "lastScaleTime": _time(report.last_scale_at),
        "conditions": _conditions(report, earlier, at),
        **_remembered(report.memory),
        "draining": [{"pod": victim.pod, "since": text_of(victim.since)} for victim in report.drain.leaving]
        or None,
    }
    if report.decision is not None:
        fields["desiredReplicas"] = report.decision.desired_replicas
        fields["decision"] = {"reason": report.decision.reason, "message": report.decision.message}
    return {name: value for name, value in fields.items() if value is not None}


def urgent(earlier: Document, later: Document) -> bool:
    """Whether more than figures and sentences differ: that is written at once."""
    return _headline(earlier) != _headline(later)


def counts_steps(earlier: Document, later: Document) -> bool:
    """Whether a step would be made twice unless it is stored before: no step limit counts, none is stored."""
    return earlier.get("scaleEvents") != later.get("scaleEvents")


def memory_of(stored: Document) -> Memory:
    """What an earlier scaler remembered. Garbage is as if nothing were remembered."""
    events = stored.get("scaleEvents")
    return Memory(
        scale_events=tuple(
            ScaleEvent(at, event["change"], _natural(event.get("replicas")))
            for event in (events if isinstance(events, list) else [])
            if isinstance(event, Mapping)
            and type(event.get("change")) is int
            and (at := seconds_of(event.get("at"))) is not None
        ),
        calm_since=seconds_of(stored.get("calmSince")),
    )


def leaving_of(stored: Document) -> tuple[Leaving, ...]:
    """The victims that an earlier scaler chose."""
    victims = stored.get("draining")
    return tuple(
        Leaving(victim["pod"], since)
        for victim in (victims if isinstance(victims, list) else [])
        if isinstance(victim, Mapping)
        and isinstance(victim.get("pod"), str)
        and (since := seconds_of(victim.get("since"))) is not None
    )


def last_scale_of(stored: Document) -> float | None:
    return seconds_of(stored.get("lastScaleTime"))


def agreed(stored: Document, spec_replicas: int) -> bool:
    """Whether an earlier scaler has decided on just these replicas, of its own accord."""
    decision = stored.get("decision")
    held = isinstance(decision, Mapping) and decision.get("reason") == Reason.CHANGED_ELSEWHERE
    return stored.get("desiredReplicas") == spec_replicas and not held


def news_of(stored: Document) -> tuple[str, str]:
    """`Report.news` as an earlier scaler stored it."""
    ready = next((item for item in _condition_list(stored) if item.get("type") == "Ready"), {})
    decision = stored.get("decision")
    reason = decision.get("reason", "") if isinstance(decision, Mapping) else ""
    shadow = any(item.get("reason") == SHADOW for item in _condition_list(stored))
    wish = f" {stored.get('desiredReplicas')}" if shadow else ""
    return str(ready.get("reason", "")), f"{reason_class(str(reason))}{wish}"


def settle(
    memory: Memory, written: Document, last_scale_at: float | None, spec_replicas: int
) -> tuple[Memory, float | None]:
    """Find out whether the newest scale event happened, where that is open; with the time of the last one.

    A step is stored before `/scale` is written, so that a scaler killed between the two cannot make it
    twice; `lastScaleTime` follows after it. So where the newest event is younger than that, `written` is
    the status stored for it. A step that never came is due again, and must not count against the limits.
    """
    newest = memory.scale_events[-1] if memory.scale_events else None
    if newest is None or (last_scale_at is not None and newest.at <= last_scale_at):
        return memory, last_scale_at
    aim = newest.replicas
    if aim is None:
        aim = _natural(written.get("desiredReplicas"))
    if aim is not None and aim - newest.change == spec_replicas:
        return replace(memory, scale_events=memory.scale_events[:-1]), last_scale_at
    return memory, newest.at


def _remembered(memory: Memory) -> dict[str, Any]:
    events = memory.scale_events[-MAX_SCALE_EVENTS:]
    return {
        "calmSince": _time(memory.calm_since),
        "scaleEvents": [_stored(event) for event in events] or None,
    }


def _stored(event: ScaleEvent) -> dict[str, Any]:
    aim = {} if event.replicas is None else {"replicas": event.replicas}
    return {"at": text_of(event.at), "change": event.change, **aim}


def _conditions(report: Report, earlier: Document, at: float) -> list[dict[str, Any]]:
    past = {item.get("type"): item for item in _condition_list(earlier)}
    conditions = []
    for kind, (status, reason, message) in _claims(report).items():
        was = past.get(kind, {})
        since = was.get("lastTransitionTime") if was.get("status") == status else None
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "observedGeneration": report.generation,
                "lastTransitionTime": since if isinstance(since, str) else text_of(at),
            }
        )
    return conditions


def _claims(report: Report) -> dict[str, tuple[str, str, str]]:
    decision = report.decision
    demand = report.demand
    if demand.low > 0:
        active = ("True", "DemandPresent", f"demand {demand}")
    elif demand.exact is not None:
        active = ("False", "NoDemand", "nothing is due or running")
    else:
        active = ("Unknown", "DemandUnknown", "the demand is not known")
    if decision is None:
        limited = ("Unknown", "NoDecision", report.ready_message)
    elif decision.limited:
        limited = ("True", decision.reason.value, decision.message)
    else:
        limited = ("False", "WithinLimits", "the demand asks for nothing that the limits forbid")
    watching = "True" if report.ready is Ready.WATCHING else "False"
    claims = {
        "Ready": (watching, report.ready.value, report.ready_message),
        "Active": active,
        "ScalingActive": _scaling_active(report),
        "ScalingLimited": limited,
        "Draining": (str(bool(report.drain.leaving)), report.drain.reason.value, report.drain.message),
    }
    if report.drift:
        claims["SpecDrift"] = ("True", "DeploymentDiffers", report.drift)
    return claims


def _scaling_active(report: Report) -> tuple[str, str, str]:
    """Whether the scaler sets the replicas, as HPA's condition of that name."""
    decision = report.decision
    if decision is None:
        return "Unknown", "NoDecision", report.ready_message
    other = report.observation.other_scaler if report.observation is not None else None
    if decision.reason is Reason.PAUSED:
        return "False", Reason.PAUSED.value, f"paused: {decision.desired_replicas} replicas are kept"
    if report.shadow:
        beside = f" beside {other}" if other else ""
        return "False", SHADOW, f"in shadow{beside}: decisions are only told"
    if decision.reason is Reason.OTHER_SCALER:
        return "False", decision.reason.value, f"{other} scales it"
    return "True", "Scaling", "the scaler sets the replicas"


def _headline(status: Document) -> tuple[object, ...]:
    decision = status.get("decision")
    reason = decision.get("reason") if isinstance(decision, Mapping) else None
    return (
        status.get("observedGeneration"),
        status.get("replicas"),
        status.get("desiredReplicas"),
        leaving_of(status),
        None if reason is None else reason_class(str(reason)),
        [
            (item.get("type"), item.get("status"), reason_class(str(item.get("reason"))))
            for item in _condition_list(status)
        ],
    )


def _condition_list(status: Document) -> list[Mapping[str, Any]]:
    conditions = status.get("conditions")
    return [item for item in conditions if isinstance(item, Mapping)] if isinstance(conditions, list) else []


def _natural(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _time(at: float | None) -> str | None:
    return None if at is None else text_of(at)
