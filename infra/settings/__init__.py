"""The settings of one stack: read, checked as a whole, and handed on as one frozen value.

`load` is the only reader of the program's configuration. It takes the flat keys, lays each entry of
`pools` over them, and either returns `Settings` or raises one `WrongSettings` that lists every wrong key;
no resource exists by then. Pulumi's own check of types runs before it and names one key at a time.

The settings and their meaning are in `infra.settings.fields` and `infra.settings.pool`, the rules in
`infra.settings.rules`, and what works but is unwise is found in `infra.settings.lint`.
`python -m infra.settings --write` brings Pulumi.yaml and README.md up to date (`infra.settings.docs`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import pulumi
from pulumi.runtime import config as pulumi_config

from infra.settings import lint
from infra.settings.fields import Settings
from infra.settings.finding import Severity
from infra.settings.names import object_name
from infra.settings.pool import Pool
from infra.settings.problem import Place, Problem, step
from infra.settings.rules import (
    FLAT_SETTINGS,
    POOL_SETTINGS,
    STACK_SETTINGS,
    problems_between,
    problems_of_names,
    problems_of_pool,
    problems_of_stack,
    values_of,
)

__all__ = ["Configuration", "Pool", "Settings", "WrongSettings", "load"]

PROJECT: Final = "celery-fleet"
PERSISTENCE: Final = (
    "redis_persistence",
    "rabbitmq_persistence",
    "postgresql_persistence",
    "beat_schedule_persistence",
)
"""A part of one of these leaves its other members as they are by default."""


class WrongSettings(pulumi.RunError):
    """The stack's configuration cannot be used. A RunError: Pulumi prints its text, no traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A stack's configuration as Pulumi hands it over: full keys, every value a text, objects as JSON."""

    stack: str
    values: Mapping[str, str]
    secret_keys: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of_program(cls) -> Self:
        """Of the running program. `pulumi.Config` cannot list its keys, so a mistyped one would go unseen."""
        values = {**pulumi_config.get_config_env(), **pulumi_config.CONFIG.get()}
        secret = frozenset(key for key in values if pulumi_config.is_config_secret(key))
        return cls(stack=pulumi.get_stack(), values=values, secret_keys=secret)


def load(configuration: Configuration | None = None) -> Settings:
    """The settings of the running program, or of `configuration`. Raises WrongSettings.

    A key that is wrong counts as not given, so nothing more is said of it.
    """
    configuration = configuration or Configuration.of_program()
    problems: list[Problem] = []
    given, pools_given = _given(configuration, problems)
    flat = values_of(given, FLAT_SETTINGS, Place(), problems)
    defaults = Pool(**{name: value for name, value in flat.items() if name in POOL_SETTINGS})
    pools = [defaults] if not pools_given else []
    places = {defaults.name: dict.fromkeys(POOL_SETTINGS, Place())}
    problems += problems_of_names(pools_given)
    for name, overrides in pools_given.items():
        if not isinstance(overrides, dict):
            problems.append(_no_object(f"pools.{name}", overrides, Place(name)))
            continue
        own = values_of(overrides, POOL_SETTINGS, Place(name), problems)
        inherited = {field: getattr(defaults, field) for field in POOL_SETTINGS}
        made = object_name(name)
        pools.append(Pool(**{**inherited, **own, "name": made, "settings_path": f"pools{step(name)}"}))
        places[made] = {field: Place(name if field in own else "") for field in POOL_SETTINGS}
        places[made]["name"] = Place(name)
    for pool in pools:
        problems += problems_of_pool(pool, places[pool.name])
    problems += problems_between(pools, places)
    rest = {name: value for name, value in flat.items() if name in STACK_SETTINGS}
    rest["namespace"] = rest.get("namespace") or f"{PROJECT}-{configuration.stack}"
    for name in PERSISTENCE:
        rest[name] = {**STACK_SETTINGS[name].default, **rest.get(name, {})}
    settings = Settings(stack=configuration.stack, defaults=defaults, pools=tuple(pools), **rest)
    secret_keys = {key.removeprefix(f"{PROJECT}:") for key in configuration.secret_keys}
    problems += problems_of_stack(settings, secret_keys)
    wrong = {problem.key for problem in problems}
    found = [finding for finding in lint.findings(settings, places) if finding.problem.key not in wrong]
    problems += [finding.problem for finding in found if finding.severity is Severity.ERROR]
    if problems:
        raise WrongSettings(_message(configuration.stack, problems))
    return replace(settings, warnings=tuple(dict.fromkeys(finding.problem for finding in found)))


def _given(configuration: Configuration, problems: list[Problem]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The flat keys and `pools`, each value as what it looks like."""
    given: dict[str, Any] = {}
    for key, text in configuration.values.items():
        name = key.removeprefix(f"{PROJECT}:")
        setting = next((known for known in FLAT_SETTINGS.values() if known.name == name), None)
        if name == "pools" or (setting and setting.type in ("array", "object")):
            given[name] = _parsed(text)
        elif setting and setting.type == "integer":
            given[name] = int(text) if re.fullmatch(r"-?\d{1,18}", text) else text
        elif setting and setting.type == "boolean":
            given[name] = {"true": True, "false": False}.get(text, text)
        elif setting or name != key:
            given[name] = text
    pools = given.pop("pools", {})
    if not isinstance(pools, dict):
        problems.append(_no_object("pools", pools, Place()))
        pools = {}
    return given, pools


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _no_object(key: str, value: object, place: Place) -> Problem:
    return Problem(
        key=key,
        wrong=f"must be an object, not {value!r}",
        effect="its meaning would be guessed",
        command=Place(place.pool or "<name>").set_command("queues[0]", "<queue>"),
    )


def _message(stack: str, problems: list[Problem]) -> str:
    found = list(dict.fromkeys(str(problem) for problem in problems))
    count = "one setting is" if len(found) == 1 else f"{len(found)} settings are"
    return f"stack {stack}: {count} wrong, nothing was changed.\n" + "\n".join(f"  {text}" for text in found)
