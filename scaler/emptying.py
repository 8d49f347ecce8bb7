"""Is a fleet empty, so that its broker may go: the one judgement behind every way to take it down.

It owns when the figures of `Celery` objects count, how long nothing must be left, what is worth waiting
for, and the sentences. `pulumi destroy`, a preview that would make a pool vanish, and `python -m scaler
drain` ask it, so it is pure and imports the standard library and the contract only: time is an argument,
memory goes in and comes out, and the API server's documents come as plain mappings.

Reading and waiting are theirs: `infra.live.departure` and `infra.live.preflight`, `scaler.commands.drain`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from scaler.contract import CRD_NAME, KIND, SCALER_NAME, Env
from scaler.rfc3339 import seconds_of, text_of

BEAT_SECONDS: Final = 20
"""Silence after which the scaler's word is old: its Lease is renewed every 5 s and lasts for 15."""
FIGURES_SECONDS: Final = 5
"""How old a figure may be beside a scaler that works: it refreshes them that often while they change,"""
FIGURES_PER_SECOND: Final = 20
"""and in a large fleet no more objects a second than this (`scaler.loop` has both)."""
SLACK_SECONDS: Final = 3
"""For the requests in between."""
DEFAULT_POLL_SECONDS: Final = 2.0
DRAIN_BLIND_SECONDS: Final = 120
"""A broker or scaler that starts anew in the middle of a drain is no reason to give it up."""
REFUSE_BLIND_SECONDS: Final = 30
PAUSED: Final = "Paused"
"""The condition ScalingActive's reason then (`scaler.pool.decision.Reason`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """One pool's tasks as its object's status has them; None is unknown, never 0."""

    queued: int | None = None
    unacked: int | None = None
    active: int | None = None
    not_due: int | None = None
    """Part of the two above."""
    next_due: float | None = None
    stranded: int | None = None
    """Part of `unacked`: its workers are gone."""
    doubt: str = ""
    """Why the scaler does not vouch for these figures now."""
    held: str = ""
    """Why the scaler starts no worker for them: there is none, and the replicas are not set by it."""
    paused: bool = False
    """Of `held`: nobody else starts one either, until a person says so."""

    @property
    def some(self) -> bool:
        """Work is known to be there, or was when somebody last knew."""
        return any((self.queued, self.unacked, self.active))

    @property
    def none(self) -> bool:
        return not self.doubt and (self.queued, self.unacked, self.active) == (0, 0, 0)

    @property
    def is_stuck(self) -> bool:
        """Messages are queued, and no worker takes them or will."""
        return self.paused and not self.doubt and bool(self.queued)

    @property
    def waits_for_its_time(self) -> bool:
        """All of it is known, and nothing but messages that are not due."""
        if self.doubt or self.queued is None or self.unacked is None or not self.some:
            return False
        return self.active == 0 and self.not_due == self.queued + self.unacked

    @property
    def sentence(self) -> str:
        """The counts, and what is special about some of them."""
        words = [
            f"{_figure(self.queued)} queued, {_figure(self.unacked)} unacked, {_figure(self.active)} active"
        ]
        if self.not_due:
            when = f", the next at {text_of(self.next_due)[:19]}Z" if self.next_due is not None else ""
            words.append(f"{self.not_due} of them not due yet{when}")
        if self.stranded:
            words.append(
                f"{self.stranded} held by workers that are gone, until the broker's visibility timeout"
            )
        if self.held:
            words.append(f"{self.held}, so nobody takes them")
        if self.doubt:
            words.append(f"as last known: {self.doubt}")
        return "; ".join(words)

    @property
    def gap(self) -> str:
        """Which figures are missing although the scaler works; "" where none is."""
        missing = [
            name
            for name, figure in (("queued", self.queued), ("unacked", self.unacked), ("active", self.active))
            if figure is None
        ]
        return f"how many tasks are {' and '.join(missing)} is not known" if missing else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """The one that fills the figures in."""

    runs: bool
    pulse: str = ""
    """A text that changes with each renewal of its Lease; "" where nobody holds one."""
    poll_seconds: float = DEFAULT_POLL_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One reading of a fleet; None stands for what is not there."""

    pools: Mapping[str, Left | None]
    scaler: Scaler | None
    defined: bool = True
    """The custom resource's definition is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How patient one wait is, in seconds."""

    work: float
    """With work that is left: the deadline."""
    gap: float
    """With a figure that a working scaler cannot have yet, as of a worker that boots."""
    blind: float
    """With a scaler that does not speak, or a broker that it cannot read."""


REFUSE: Final = Rules(work=0, gap=REFUSE_BLIND_SECONDS, blind=REFUSE_BLIND_SECONDS)


def drain_rules(seconds: float) -> Rules:
    return Rules(work=seconds, gap=math.inf, blind=DRAIN_BLIND_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    started: float
    read: float | None = None
    """When the last reading was."""
    listening: float | None = None
    """Since when readings have followed each other closely."""
    pulse: str | None = None
    beat: float | None = None
    """When the pulse was last seen to change."""
    since: Mapping[str, float] = field(default_factory=dict)
    """Since when the fleet has been `blind`, has had a `gap`, or has been `empty`."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing was left for long enough."""


@dataclass(frozen=True, slots=True)
class Waiting:
    sentence: str


@dataclass(frozen=True, slots=True)
class WorkLeft:
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    lines: tuple[str, ...]


Verdict = Empty | Waiting | WorkLeft | Unknown


def judge(sight: Sight, memory: Memory, rules: Rules, at: float) -> tuple[Verdict, Memory]:
    """In this order:

    1. what is gone will not speak again: unknown, at once;
    2. work that is known to be left, be it from an older word, ends the wait at the deadline; before it,
       where only messages are left that are due after it or wait in a pool that is paused at 0;
    3. what is unknown has a patience of its own, and the deadline;
    4. zeros count once they have held for `quiet_seconds` with the scaler's pulse seen in between.
    """
    memory = _listened(memory, sight, at)
    gone = tuple(_gone(sight))
    pools = {name: left for name, left in sorted(sight.pools.items()) if left is not None}
    counted = tuple(f"pool {name}: {left.sentence}" for name, left in pools.items() if left.some)
    if gone:
        return Unknown((*gone, *counted)), memory
    blind = tuple(_blind(sight, memory, at))
    doubts = tuple(f"pool {name}: {left.doubt}" for name, left in pools.items() if left.doubt)
    gaps = tuple(f"pool {name}: {left.gap}" for name, left in pools.items() if left.gap and not left.doubt)
    heard = memory.beat is not None
    empty = heard and not blind and all(left.none for left in pools.values())
    memory = replace(
        memory,
        since=_since(memory, at, blind=bool(blind or doubts) or not heard, gap=bool(gaps), empty=empty),
    )
    unknown = (*blind, *(line for line in (*doubts, *gaps) if not _counted(line, counted)))
    deadline = memory.started + rules.work
    if counted and (at >= deadline or (heard and not unknown and _only_later(pools.values(), deadline))):
        return WorkLeft((*counted, *unknown)), memory
    if unknown and (at >= deadline > memory.started or _overdue(memory, rules, at)):
        return Unknown((*unknown, *counted)), memory
    if counted or unknown:
        return Waiting("; ".join((*counted, *unknown))), memory
    if not empty:
        return Waiting("waiting for the scaler's word"), memory
    calm = memory.since["empty"]
    if at - calm >= quiet_seconds(sight) and memory.beat is not None and memory.beat > calm:
        return Empty(), memory
    return Waiting("nothing is left; waiting whether it stays so"), memory


def quiet_seconds(sight: Sight) -> float:
    """Two polls, a figure's greatest age, and slack: whatever came before that would show by now."""
    poll = sight.scaler.poll_seconds if sight.scaler else DEFAULT_POLL_SECONDS
    return 2 * poll + max(FIGURES_SECONDS, len(sight.pools) / FIGURES_PER_SECOND) + SLACK_SECONDS


def left_now(sight: Sight, name: str) -> str:
    """What is left of one pool by a single reading; "" only where the scaler vouches for zeros."""
    left = sight.pools.get(name)
    gone = [line for line in _gone(sight) if not line.startswith("pool ")]
    if gone or (sight.scaler is not None and not sight.scaler.runs):
        why = gone[0] if gone else _STOPPED
        return f"with nobody to say how many tasks are left: {why}"
    if left is None:
        return f"and its {KIND} object is gone, so nothing says how many tasks are left"
    if left.none:
        return ""
    if left.some:
        return f"with tasks left: {left.sentence}"
    return f"while its scaler does not know how many tasks are left: {left.doubt or left.gap}"


def left_of(generation: int, status: object) -> Left:
    """From a `Celery` object's generation and status."""
    found: Mapping[str, Any] = status if isinstance(status, Mapping) else {}
    scaling = _condition(found, "ScalingActive")
    held = found.get("replicas") == 0 and scaling.get("status") == "False"
    return Left(
        queued=_natural(found.get("queued")),
        unacked=_natural(found.get("unacked")),
        active=_natural(found.get("active")),
        not_due=_natural(found.get("notDue")),
        next_due=seconds_of(found.get("nextDueTime")),
        stranded=_natural(found.get("stranded")),
        doubt=_doubt(generation, found),
        held=str(scaling.get("message") or scaling.get("reason") or "") if held else "",
        paused=held and scaling.get("reason") == PAUSED,
    )


def scaler_of(deployment: Mapping[str, Any], lease: Mapping[str, Any] | None) -> Scaler:
    """From the scaler's Deployment and its Lease, as the API server has them."""
    spec = (lease or {}).get("spec") or {}
    renewed = f"{spec.get('holderIdentity')} {spec.get('renewTime')}"
    return Scaler(
        runs=bool(((deployment.get("status") or {}).get("availableReplicas")) or 0),
        pulse=renewed if spec.get("holderIdentity") and spec.get("renewTime") else "",
        poll_seconds=_poll_seconds(deployment),
    )


_STOPPED: Final = f"no pod of Deployment {SCALER_NAME} is ready"


def _gone(sight: Sight) -> Iterator[str]:
    if not sight.defined:
        yield f"the definition {CRD_NAME} is gone, and every {KIND} object with it"
    if sight.scaler is None:
        yield f"Deployment {SCALER_NAME} is gone, so nobody counts"
    if sight.defined:
        for name in sorted(name for name, left in sight.pools.items() if left is None):
            yield f"pool {name}: its {KIND} object is gone, so nobody counts its tasks"


def _blind(sight: Sight, memory: Memory, at: float) -> Iterator[str]:
    heard = memory.beat or memory.listening or memory.started
    if sight.scaler is not None and not sight.scaler.runs:
        yield _STOPPED
    elif at - heard > BEAT_SECONDS:
        yield f"the scaler has not renewed its Lease {SCALER_NAME} for {at - heard:.0f} s"


def _listened(memory: Memory, sight: Sight, at: float) -> Memory:
    pulse = sight.scaler.pulse if sight.scaler else ""
    if memory.read is None or at - memory.read > BEAT_SECONDS / 2:
        # The first reading, or the first after the API server was away, says nothing about its own age.
        since = {name: moment for name, moment in memory.since.items() if name != "empty"}
        return replace(memory, read=at, listening=at, pulse=pulse, beat=None, since=since)
    beats = pulse not in ("", memory.pulse)
    return replace(memory, read=at, pulse=pulse, beat=at if beats else memory.beat)


def _since(memory: Memory, at: float, **present: bool) -> Mapping[str, float]:
    return {name: memory.since.get(name, at) for name, there in present.items() if there}


def _overdue(memory: Memory, rules: Rules, at: float) -> bool:
    return any(
        name in memory.since and at - memory.since[name] >= patience
        for name, patience in (("blind", rules.blind), ("gap", rules.gap))
    )


def _only_later(pools: Iterable[Left], deadline: float) -> bool:
    """Waiting until the deadline would change nothing."""
    return all(
        left.is_stuck or (left.waits_for_its_time and left.next_due is not None and left.next_due > deadline)
        for left in pools
        if left.some
    )


def _counted(line: str, counted: Iterable[str]) -> bool:
    """The pool is told with its counts, which say what is not known of it."""
    return any(line.partition(": ")[0] == other.partition(": ")[0] for other in counted)


def _doubt(generation: int, status: Mapping[str, Any]) -> str:
    ready = _condition(status, "Ready")
    if not ready or (_natural(ready.get("observedGeneration")) or 0) < generation:
        return f"the scaler has not reported on generation {generation} of it"
    return "" if ready.get("status") == "True" else f"{ready.get('reason')}: {ready.get('message')}"


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    conditions = status.get("conditions")
    entries = conditions if isinstance(conditions, list) else []
    return next((entry for entry in entries if isinstance(entry, Mapping) and entry.get("type") == type_), {})


def _poll_seconds(deployment: Mapping[str, Any]) -> float:
    pod = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in pod.get("containers") or ():
        for variable in container.get("env") or ():
            if variable.get("name") == Env.POLL_SECONDS:
                try:
                    return float(variable.get("value") or DEFAULT_POLL_SECONDS)
                except ValueError:
                    return DEFAULT_POLL_SECONDS
    return DEFAULT_POLL_SECONDS


def _figure(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _natural(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
