"""The shapes of the settings that are objects or lists; Pulumi.yaml cannot type their members.

Each function takes a value of the right outer type and yields (path, wrong, effect, example) for every
member that is wrong; an empty effect stands for the setting's own, an empty example for "remove it".
Kubernetes' own shapes are checked as far as a mistake would show late or not at all: the API server
refuses the rest when the object is applied.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from infra.settings.celery_options import REFUSED, options_of
from infra.settings.pod_shapes import POD_SHAPES
from infra.settings.problem import Text, step
from scaler import contract

Wrong = tuple[str, str, str, str]

QUANTITY: Final = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
"""https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/, without exponents."""
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHER_BROKER = "the workers would use another broker than the scaler"
OURS: Final = {
    "CELERY_BROKER_URL": _OTHER_BROKER,
    "CELERY_BROKER_READ_URL": _OTHER_BROKER,
    "CELERY_BROKER_WRITE_URL": _OTHER_BROKER,
    "CELERY_RESULT_BACKEND": "the workers would use another Redis than the stack's",
    "POD_NAME": "the scaler would not find the pods of the workers",
    "HOME": "the workers may write nowhere but in /tmp",
    "REMAP_SIGTERM": "a worker that is told to stop would kill its tasks; softShutdownTimeoutSeconds sets it",
}
"""Variable to what another value would cause."""

_IGNORED = "nothing would read it"
_REFUSED = "the API server would refuse it, after half of the stack is there"


def _members(value: Mapping[str, Any], known: Iterable[str], path: str = "") -> Iterator[Wrong]:
    for name in value:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"{path}{step(name)}", "there is no such member", f"{_IGNORED}{hint}", ""


def _is_quantity(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or (isinstance(value, str) and bool(QUANTITY.fullmatch(value)))


def _resources(value: Mapping[str, Any]) -> Iterator[Wrong]:
    yield from _members(value, ("requests", "limits"))
    for part in ("requests", "limits"):
        amounts = value.get(part, {})
        if not isinstance(amounts, dict):
            yield f".{part}", f"must be an object, not {amounts!r}", _REFUSED, ""
            continue
        for name, amount in amounts.items():
            if not _is_quantity(amount):
                example = "512Mi" if name == "memory" else "500m"
                yield (
                    f".{part}.{name}",
                    f"must be a quantity like {example}, not {amount!r}",
                    _REFUSED,
                    example,
                )
    limits = value.get("limits", {})
    if isinstance(limits, dict) and "memory" not in limits:
        yield ".limits.memory", "is missing", "", "512Mi"


def _persistence(value: Mapping[str, Any]) -> Iterator[Wrong]:
    yield from _members(value, ("enabled", "size", "storageClass"))
    if not isinstance(value.get("enabled", True), bool):
        yield (
            ".enabled",
            f"must be true or false, not {value['enabled']!r}",
            "its meaning would be guessed",
            "true",
        )
    if not _is_quantity(value.get("size", "8Gi")):
        yield ".size", f"must be a quantity like 8Gi, not {value['size']!r}", _REFUSED, "8Gi"
    if not isinstance(value.get("storageClass", ""), str):
        yield ".storageClass", f"must be text, not {value['storageClass']!r}", _REFUSED, "<name>"


def _env(value: Mapping[str, Any]) -> Iterator[Wrong]:
    for name, text in value.items():
        if not VARIABLE.fullmatch(name):
            yield step(name), "is no name for an environment variable", _REFUSED, ""
        elif name in OURS:
            yield (
                f".{name}",
                "is set by the stack itself",
                OURS[name],
                "",
            )
        elif not isinstance(text, str):
            yield step(name), f"must be text, not {text!r}", _REFUSED, Text(json.dumps(text))


def _env_from(value: list[Any]) -> Iterator[Wrong]:
    for number, source in enumerate(value):
        keys = set(source) - {"prefix"} if isinstance(source, dict) else set()
        kind = next(iter(keys)) if len(keys) == 1 else ""
        named = kind in ("secretRef", "configMapRef") and isinstance(source[kind], dict)
        if not named or not isinstance(source[kind].get("name"), str):
            wrong = 'must be like {"secretRef": {"name": "..."}} or {"configMapRef": {"name": "..."}}'
            yield f"[{number}]", wrong, _REFUSED, ""


def _extra_args(value: list[Any]) -> Iterator[Wrong]:
    words = [word if isinstance(word, str) else "" for word in value]
    for number, word in enumerate(words):
        if not word:
            wrong = f"must be an argument as text, not {value[number]!r}"
            yield (
                f"[{number}]",
                wrong,
                _REFUSED,
                "" if value[number] == "" else Text(json.dumps(value[number])),
            )
            return
    if "--" in words:
        wrong = "`--` ends the options, and Celery's configuration would follow"
        effect = "the stack's own, such as acksLate, would be read as another argument"
        yield f"[{words.index('--')}]", wrong, effect, ""
        return
    for option in options_of(words):
        if not option.name:
            wrong = f"{words[option.index]!r} is neither an option nor the value of one"
            yield f"[{option.index}]", wrong, "the workers would stop at their start", ""
        elif option.name in REFUSED:
            wrong, effect = REFUSED[option.name]
            yield f"[{option.index}]", f"{words[option.index]} {wrong}", effect, ""


def _names(value: list[Any]) -> Iterator[Wrong]:
    for number, name in enumerate(value):
        if not isinstance(name, str) or not name:
            yield f"[{number}]", f"must be the name of a Secret, not {name!r}", _REFUSED, "<name>"


def _queues(value: list[Any]) -> Iterator[Wrong]:
    refused = "the scaler would refuse the pool, and its workers would stay as they are"
    if not value:
        yield "[0]", contract.QUEUE_EMPTY.message, "", contract.DEFAULT_QUEUE
    seen = set()
    for number, name in enumerate(value):
        if not isinstance(name, str):
            yield f"[{number}]", f"must be the name of a queue, not {name!r}", refused, f"{name}"
        elif not name.strip():
            yield f"[{number}]", contract.QUEUE_EMPTY.message, refused, ""
        elif name.strip() in seen:
            yield f"[{number}]", f"{contract.QUEUE_TWICE.message} ({name!r})", refused, ""
        elif "," in name or name != name.strip():
            wrong = f"{name!r} is no single name: commas separate queues, blanks around a name are dropped"
            yield (
                f"[{number}]",
                wrong,
                "workers and scaler would look at other queues",
                name.split(",")[0].strip(),
            )
        else:
            seen.add(name)
    if all(isinstance(name, str) for name in value) and len(",".join(value)) > contract.MAX_QUEUES_LENGTH:
        wrong = f"their names must not be longer than {contract.MAX_QUEUES_LENGTH} characters together"
        yield "", wrong, "the API server would refuse the Celery object", ""


def _behavior(value: Mapping[str, Any]) -> Iterator[Wrong]:
    yield from _members(value, ("scaleUp", "scaleDown"))
    for direction in ("scaleUp", "scaleDown"):
        rules = value.get(direction, {})
        known = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
        if isinstance(rules, dict):
            yield from _members(rules, known, f".{direction}")
    spec = {
        "common": {"appName": "pool"},
        "workerSpec": {},
        "scaleTargetRef": [{"kind": "worker", "behavior": value}],
    }
    try:
        contract.policy_of(spec)
    except contract.InvalidSpec as wrong:
        yield "", str(wrong), "the scaler would refuse the pool, and its workers would stay as they are", ""


def _transport_options(value: Mapping[str, Any]) -> Iterator[Wrong]:
    effect = "workers and scaler would look for messages under different keys"
    for name in ("sep", "global_keyprefix"):
        if name in value and (not isinstance(value[name], str) or (name == "sep" and not value[name])):
            yield f".{name}", f"must be text, not {value[name]!r}", effect, ""
    steps = value.get("priority_steps", [0])
    whole = isinstance(steps, list) and all(type(step) is int and 0 <= step <= 255 for step in steps)
    if not whole or sorted(set(steps)) != steps or steps[:1] != [0]:
        wrong = f"must be whole numbers from 0 upwards, each once, like [0, 3, 6, 9], not {steps!r}"
        yield ".priority_steps", wrong, effect, ""
    timeout = value.get("visibility_timeout", 3600)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout < 1:
        wrong = f"must be a number of seconds from 1, not {timeout!r}"
        yield ".visibility_timeout", wrong, "tasks that still run would be delivered again", "3600"


SHAPES: Final[Mapping[str, Callable[[Any], Iterator[Wrong]]]] = {
    "resources": _resources,
    "redisResources": _resources,
    "flowerResources": _resources,
    "scalerResources": _resources,
    "redisPersistence": _persistence,
    "queues": _queues,
    "env": _env,
    "envFrom": _env_from,
    "extraArgs": _extra_args,
    "imagePullSecrets": _names,
    "behavior": _behavior,
    "brokerTransportOptions": _transport_options,
    "beatSchedulePersistence": _persistence,
    "beatResources": _resources,
    **POD_SHAPES,
}
