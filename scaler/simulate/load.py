"""Loads: when tasks come and how long each takes, made by kind and seed, or taken from a recording.

It owns the kinds of `--load` and their keys. A load knows nothing of workers: the same one is replayed under
every policy.

Rates are tasks a second at their height, `period` and `seconds` are seconds; arrivals are Poisson, a service
time is its mean give or take up to `spread` of it, evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from scaler.simulate.words import Impossible, known, number, split

MAX_TASKS: Final = 2_000_000
"""A slip of the hand in a rate must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    name: str
    arrivals: list[float]
    """Seconds from the begin, in order."""
    services: list[float]
    """Seconds that a slot is busy with each."""

    @property
    def work(self) -> float:
        """Slot-seconds."""
        return sum(self.services)


Keys = Mapping[str, float]
_COMMON: Final[Keys] = {"seconds": 3600, "service": 1, "spread": 0.5}

KINDS: Final[Mapping[str, Keys]] = {
    "flood": {**_COMMON, "at": 60, "tasks": 3000, "over": 10},
    "sawtooth": {**_COMMON, "rate": 10, "period": 900},
    "square": {**_COMMON, "rate": 10, "period": 900},
    "poisson": {**_COMMON, "rate": 5},
    "diurnal": {**_COMMON, "rate": 10, "period": 3600},
    "dead-zero": {**_COMMON, "at": 1800, "tasks": 1, "over": 0},
    "bimodal": {**_COMMON, "rate": 5, "long": 30, "share": 0.05},
}
"""Keys with their defaults. `tasks` come within `over` seconds from `at` on; a sawtooth climbs for a period
and drops, a square is on for its first half, a day's curve takes a period; `share` of the tasks take
`long`."""


def made(text: str, seed: int) -> Load:
    """The load that `kind:key=value,...` asks for. Raises Impossible."""
    kind, given = split(text)
    if kind not in KINDS:
        raise Impossible(f"there is no load {kind}; there are {', '.join(KINDS)}")
    keys = dict(KINDS[kind])
    for key, value in given.items():
        known(kind, key, keys)
        keys[key] = number(kind, key, value)
    for key in ("period", "service", "long"):
        if keys.get(key, 1) <= 0:
            raise Impossible(f"{kind}: {key} must be above 0")
    for key in ("spread", "share"):
        if keys.get(key, 0) > 1:
            raise Impossible(f"{kind}: {key} must be at most 1")
    if max(keys.get("tasks", 0), keys.get("rate", 0) * keys["seconds"]) > MAX_TASKS:
        raise Impossible(f"{kind}: more than {MAX_TASKS:,} tasks")
    random = Random(seed)
    arrivals = _burst(keys, random) if "tasks" in keys else _stream(keys, random, _SHAPES[kind])
    if not arrivals:
        raise Impossible(f"{text}: no task comes")
    return Load(name=text, arrivals=arrivals, services=[_service(keys, random) for _ in arrivals])


def _burst(keys: Keys, random: Random) -> list[float]:
    return sorted(keys["at"] + random.random() * keys["over"] for _ in range(int(keys["tasks"])))


def _stream(keys: Keys, random: Random, shape: Callable[[float, Keys], float]) -> list[float]:
    """A Poisson stream whose rate follows the shape, by thinning one of the highest rate."""
    arrivals: list[float] = []
    at, rate = 0.0, keys["rate"]
    while rate and (at := at + random.expovariate(rate)) < keys["seconds"]:
        if random.random() < shape(at, keys):
            arrivals.append(at)
    return arrivals


_SHAPES: Final[Mapping[str, Callable[[float, Keys], float]]] = {
    "sawtooth": lambda at, keys: at % keys["period"] / keys["period"],
    "square": lambda at, keys: float(at % keys["period"] < keys["period"] / 2),
    "poisson": lambda _at, _keys: 1.0,
    "diurnal": lambda at, keys: (1 - math.cos(2 * math.pi * at / keys["period"])) / 2,
    "bimodal": lambda _at, _keys: 1.0,
}
"""The rate at a time, as a share of the highest."""


def _service(keys: Keys, random: Random) -> float:
    mean = keys["long"] if random.random() < keys.get("share", 0) else keys["service"]
    return mean * (1 + keys["spread"] * random.uniform(-1, 1))
