"""What is said of one thing that works and is unwise, and the pool that a rule looks at.

It owns the words' form; the rules are in `infra.settings.lint` and `infra.settings.broker_lint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from infra.settings.pool import Pool
from infra.settings.problem import Place, Problem
from infra.settings.schema import settings_of


class Severity(StrEnum):
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    problem: Problem


@dataclass(frozen=True, slots=True)
class Declared:
    """One pool, as a rule looks at it."""

    pool: Pool
    places: Mapping[str, Place]
    """Field to the layer of configuration that its value comes from."""
    about_tasks: Severity
    """How bad it is here to lose a task, or to run it twice."""

    def finding(self, severity: Severity, field: str, wrong: str, effect: str, cure: object) -> Finding:
        """About one setting; `cure` is a better value."""
        return self.advice(severity, field, wrong, effect, "", cure)

    def advice(
        self, severity: Severity, field: str, wrong: str, effect: str, advice: str, cure: object
    ) -> Finding:
        """The same, with words before the command."""
        name, place = settings_of(Pool)[field].name, self.places[field]
        command = advice + place.set_command(name, cure)
        return Finding(severity, Problem(key=place.key(name), wrong=wrong, effect=effect, command=command))
