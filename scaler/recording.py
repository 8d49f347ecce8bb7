"""Recordings: what was observed and decided, tick by tick, as JSON lines that outlive the process.

It owns the format, both ways, and refuses a file that is not one: the error names the line and the field.
`python -m scaler record` writes recordings, `python -m scaler simulate` reads them.

Each line is an object with the fields of one of the classes below; `line` says of which:
- `header`, the first one: a `Header`. `pools` has by name the `spec` of each `Celery` object, as far as the
  scaler follows it.
- `policy`: a `NewPolicy`, where an object came or was changed.
- `tick`: a `Tick`, one a pool and poll.

Times are seconds since the epoch. A count is `{"low": 3, "high": 3}`, `high` being null where nothing bounds
it. What is not known is null, never 0. A reader leaves fields alone that it does not know, and
a last line that was cut: the recorder was stopped while it wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct

from scaler.contract import InvalidSpec, Policy, ScalingRules, policy_of
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.decision import Observation, Reason

FORMAT: Final = "celery-fleet-recording"
VERSION: Final = 1

Spec = dict[str, Any]
_Natural = Annotated[int, Meta(ge=0)]


class WrongRecording(ValueError):  # noqa: N818  # said in full in the message
    """One line: which line and field of the recording is wrong, and how."""


class _NoJson(WrongRecording):
    """Nothing or not all of a line is there."""


class Header(Struct, frozen=True, kw_only=True, tag_field="line", tag="header"):
    format: str = FORMAT
    version: int = VERSION
    namespace: str
    poll_seconds: Annotated[float, Meta(gt=0)]
    pools: dict[str, Spec]


class NewPolicy(Struct, frozen=True, kw_only=True, tag_field="line", tag="policy"):
    at: float
    pool: str
    spec: Spec


class Decided(Struct, frozen=True, kw_only=True):
    """A `scaler.pool.decision.Decision`."""

    desired_replicas: _Natural
    reason: Reason
    message: str
    limited: bool = False


class Beat(Struct, frozen=True, kw_only=True):
    """A heartbeat, which comes every 2 s."""

    at: float
    """When it was heard."""
    processed: _Natural
    """Tasks that the worker has taken since it started."""


class Seen(Struct, frozen=True, kw_only=True):
    """What a tick knew besides what it decided by."""

    replicas: _Natural | None = None
    """Pods that exist."""
    running: _Natural | None = None
    """Tasks that run, by the workers' heartbeats."""
    capacity: _Natural | None = None
    """Slots of the workers that take tasks."""
    beats: dict[str, Beat] = {}  # msgspec copies it
    """By pod, its worker's last heartbeat."""
    not_due: Count = UNKNOWN
    leaving: tuple[str, ...] = ()
    """Pods that are to leave."""


class Tick(Struct, frozen=True, kw_only=True, tag_field="line", tag="tick"):
    at: float
    pool: str
    ready: str
    """The reason of the object's condition Ready."""
    observation: Observation | None = None
    """What `scaler.pool.decision.decide` was given; None where there was no Deployment to decide about."""
    decided: Decided | None = None
    """What came of it."""
    seen: Seen = Seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    namespace: str
    poll_seconds: float
    specs: Mapping[str, Spec]
    """By pool: as its object was at last."""
    ticks: Mapping[str, Sequence[Tick]]
    """By pool, in the order of their times."""


def text_of(line: Header | NewPolicy | Tick) -> str:
    return msgspec.json.encode(line).decode()


def read(lines: Iterable[str | bytes]) -> Recording:
    """Raises WrongRecording."""
    numbered = enumerate(lines, start=1)
    number, text = next(numbered, (1, b""))
    header = _header(number, text)
    specs = {pool: _checked(number, f"pools.{pool}", spec) for pool, spec in header.pools.items()}
    ticks: dict[str, list[Tick]] = {pool: [] for pool in specs}
    cut: WrongRecording | None = None
    for number, text in numbered:
        if cut is not None:
            raise cut
        try:
            line = _decode(number, text, Header | NewPolicy | Tick)
        except _NoJson as error:
            if _ended(text):
                raise
            cut = error  # where it is the last line, it is left out
            continue
        match line:
            case NewPolicy(pool=pool, spec=spec):
                specs[pool] = _checked(number, "spec", spec)
                ticks.setdefault(pool, [])
            case Tick() as tick:
                if tick.pool not in ticks:
                    _refuse(number, "pool", f"no line before says what {tick.pool} is")
                _check(number, tick, ticks[tick.pool][-1:])
                ticks[tick.pool].append(tick)
            case _:
                _refuse(number, "line", "a second header")
    return Recording(namespace=header.namespace, poll_seconds=header.poll_seconds, specs=specs, ticks=ticks)


def _ended(text: str | bytes) -> bool:
    return text.endswith("\n") if isinstance(text, str) else text.endswith(b"\n")


def _header(number: int, text: str | bytes) -> Header:
    first = _decode(number, text, dict[str, Any])
    if first.get("format") != FORMAT:
        _refuse(number, "format", f"not {FORMAT}: this is no recording of `python -m scaler record`")
    if first.get("version") != VERSION:
        _refuse(number, "version", f"{first.get('version')!r} is not {VERSION}, which this scaler reads")
    return _decode(number, text, Header)


_T = TypeVar("_T")


def _decode(number: int, text: str | bytes, kind: type[_T] | Any) -> _T | Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at ")
        _refuse(number, path.strip("`").removeprefix("$").lstrip(".") or "line", said)
    except msgspec.DecodeError as error:
        raise _NoJson(f"line {number}: no JSON: {error}") from error


def _checked(number: int, where: str, spec: Spec) -> Spec:
    try:
        policy_of(spec)
    except InvalidSpec as error:
        _refuse(number, where, str(error))
    return spec


def _check(number: int, tick: Tick, earlier: Sequence[Tick]) -> None:
    if earlier and tick.at <= earlier[0].at:
        _refuse(number, "at", f"{tick.at} is not after the pool's tick before")
    counts = {"seen.not_due": tick.seen.not_due}
    if tick.observation is not None:
        seen = tick.observation
        names = {"queued": seen.queued, "unacked": seen.unacked, "active": seen.active}
        counts |= {f"observation.{name}": count for name, count in names.items()}
    for where, count in counts.items():
        if count.low < 0 or (count.high is not None and count.high < count.low):
            _refuse(number, where, f"from {count.low} to {count.high} is no range")


def _refuse(number: int, where: str, what: str) -> NoReturn:
    raise WrongRecording(f"line {number}, {where}: {what}")


def spec_of(name: str, policy: Policy) -> Spec:
    """The `spec` of a `Celery` object `name` that asks for just this policy."""
    behavior = policy.behavior
    target = {
        "kind": "worker",
        "name": policy.deployment,
        "minReplicas": policy.min_replicas,
        "maxReplicas": policy.max_replicas,
        "metrics": [
            {"name": "message_queue", "target": {"type": "length", "averageValue": policy.average_value}}
        ],
        "behavior": {"scaleUp": _rules(behavior.scale_up), "scaleDown": _rules(behavior.scale_down)},
        "paused": policy.paused,
        "mode": policy.mode.value,
        "drainSeconds": policy.drain_seconds,
    }
    worker = {"queues": ",".join(policy.queues), "concurrency": policy.concurrency}
    common = {"appName": name} | ({"image": policy.image} if policy.image else {})
    return {"common": common, "workerSpec": worker, "scaleTargetRef": [target]}


def _rules(rules: ScalingRules) -> dict[str, Any]:
    return {
        "stabilizationWindowSeconds": rules.stabilization_seconds,
        "selectPolicy": rules.select_policy.value,
        "policies": [
            {"type": limit.type.value, "value": limit.value, "periodSeconds": limit.period_seconds}
            for limit in rules.limits
        ],
        "tolerance": rules.tolerance,
    }
