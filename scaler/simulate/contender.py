"""What `--policy` asks for: a name, whose rules it follows, and the words of `scaleTargetRef`.

It owns the keys and their places in a `Celery` object's spec, which is checked as the scaler checks any.
A name that is hpa or keda, or begins with hpa- or keda-, goes by the rules of those; any other one by ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Protocol

from scaler.contract import InvalidSpec, Policy, StepType, policy_of
from scaler.recording import Spec
from scaler.settings import DEFAULT_POLL_SECONDS
from scaler.simulate.fleet import Fleet
from scaler.simulate.hpa import COOLDOWN_SECONDS, DEFAULT_BEHAVIOR, POLL_SECONDS, SYNC_SECONDS, Hpa, Keda
from scaler.simulate.site import Site
from scaler.simulate.words import Impossible, known, number, split, whole

PLAIN_SPEC: Final[Spec] = {
    "common": {"appName": "simulated"},
    "workerSpec": {},
    "scaleTargetRef": [{"kind": "worker"}],
}
"""All defaults: from 1 to 10 workers, 100 messages each, one slot."""

DEFAULTS: Final = ("ours", "hpa", "keda")
_BEHAVIOR: Final = (
    "stabilizationWindowSeconds",
    "tolerance",
    "selectPolicy",
    "policies",
)
SPEC_KEYS: Final = (
    "minReplicas",
    "maxReplicas",
    "averageValue",
    "concurrency",
    "drainSeconds",
    "calmSeconds",
    *(f"{way}.{word}" for way in ("scaleUp", "scaleDown") for word in _BEHAVIOR),
)
"""`calmSeconds` is short for scaleDown.stabilizationWindowSeconds; `policies` are written
Pods/4/60+Percent/100/15: type, value, periodSeconds."""
TIMES: Final[Mapping[str, Mapping[str, float]]] = {
    "ours": {"phaseSeconds": -1.0, "pollSeconds": DEFAULT_POLL_SECONDS},
    "hpa": {"phaseSeconds": -1.0, "syncSeconds": SYNC_SECONDS},
    "keda": {
        "phaseSeconds": -1.0,
        "syncSeconds": SYNC_SECONDS,
        "pollSeconds": POLL_SECONDS,
        "cooldownSeconds": COOLDOWN_SECONDS,
    },
}
"""By whose rules, the keys that are no part of a spec. `phaseSeconds` is when it looks first (an HPA, when
it syncs first): drawn by the seed where it is not given."""


class Autoscaler(Protocol):
    @property
    def next_at(self) -> float:
        """When it acts next."""

    def act(self, site: Site) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    name: str
    rules: str
    policy: Policy
    times: Mapping[str, float]

    @property
    def longest_wait(self) -> float:
        """Seconds after which replicas that stayed, with nothing to do, will not change any more."""
        behavior = self.policy.behavior
        limits = (*behavior.scale_up.limits, *behavior.scale_down.limits)
        period = max((limit.period_seconds for limit in limits), default=0)
        window = behavior.scale_down.stabilization_seconds + self.times.get("cooldownSeconds", 0.0)
        return window + period + 60

    def autoscaler(self, random: Random) -> Autoscaler:
        times, policy = self.times, self.policy
        sync = times.get("syncSeconds", times.get("pollSeconds", 0.0))
        phase = times["phaseSeconds"] if times["phaseSeconds"] >= 0 else random.uniform(0, sync)
        if self.rules == "ours":
            return Fleet(policy, poll_seconds=times["pollSeconds"], phase=phase, random=random)
        if self.rules == "hpa":
            return Hpa(policy, sync_seconds=sync, phase=phase)
        poll, sleeps = times["pollSeconds"], policy.min_replicas == 0
        return Keda(
            Hpa(replace(policy, min_replicas=max(1, policy.min_replicas)), sync_seconds=sync, phase=phase),
            sleeps=sleeps,
            poll_seconds=poll,
            cooldown_seconds=times["cooldownSeconds"],
            phase=random.uniform(0, poll),
        )


def contender_of(text: str, base: Spec, common: Mapping[str, str]) -> Contender:
    """`name:key=value,...` on top of `common` keys on top of a spec. Raises Impossible."""
    name, values = split(text)
    rules = next((each for each in ("hpa", "keda") if name == each or name.startswith(f"{each}-")), "ours")
    spec, times = deepcopy(base), dict(TIMES[rules])
    # What a pool that was paused would have done is a question like any other.
    spec["scaleTargetRef"][0]["paused"] = False
    if rules != "ours":
        spec["scaleTargetRef"][0]["behavior"] = deepcopy(DEFAULT_BEHAVIOR)
    for key, value in {**common, **values}.items():
        if key in times:
            times[key] = number(name, key, value, least=0 if key == "phaseSeconds" else 0.1)
        elif key in common and key not in values and any(key in others for others in TIMES.values()):
            continue  # another contender's
        else:
            known(name, key, (*SPEC_KEYS, *times))
            _place(spec, name, key, value)
    try:
        policy = policy_of(spec)
    except InvalidSpec as error:
        raise Impossible(f"{name}: {error}") from error
    if rules == "hpa" and policy.min_replicas == 0:
        raise Impossible(f"{name}: minReplicas must be at least 1: an HPA wakes nothing from 0")
    return Contender(name=name, rules=rules, policy=policy, times=times)


def _place(spec: Spec, name: str, key: str, value: str) -> None:
    target: dict[str, Any] = spec["scaleTargetRef"][0]
    if key == "averageValue":
        aim = {"type": "length", "averageValue": whole(name, key, value)}
        target["metrics"] = [{"name": "message_queue", "target": aim}]
    elif key == "concurrency":
        spec["workerSpec"][key] = whole(name, key, value)
    elif "." in key or key == "calmSeconds":
        way, _, word = key.replace("calmSeconds", "scaleDown.stabilizationWindowSeconds").partition(".")
        rules = target.setdefault("behavior", {}).setdefault(way, {})
        rules[word] = _WORDS[word](name, key, value)
    else:
        target[key] = whole(name, key, value)


def _limits(name: str, key: str, text: str) -> list[dict[str, Any]]:
    limits = []
    for part in text.split("+"):
        words = part.split("/")
        if len(words) != 3 or words[0] not in set(StepType):
            raise Impossible(f"{name}: {key} must be like Pods/4/60+Percent/100/15, not {text}")
        value, period = (whole(name, key, word) for word in words[1:])
        limits.append({"type": words[0], "value": value, "periodSeconds": period})
    return limits


_WORDS: Final[Mapping[str, Callable[[str, str, str], Any]]] = {
    "stabilizationWindowSeconds": whole,
    "tolerance": number,
    "selectPolicy": lambda _name, _key, text: text,
    "policies": _limits,
}
