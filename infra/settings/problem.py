"""What is said of one wrong setting, and the `pulumi config` command that mends it.

It owns the words' form and the commands' syntax; which settings are wrong is in `infra.settings.rules`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LOOKS_TYPED: Final = re.compile(r"-?\d+(\.\d+)?|true|false", re.IGNORECASE)
"""What `pulumi config set --path` stores as a number or a truth value, says its manual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One wrong setting."""

    key: str
    wrong: str
    effect: str
    command: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong}\n    effect: {self.effect}\n    fix:    {self.command}"


class Text(str):
    """A value that stays text, also where it looks like a number or a truth value."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer of configuration stands: at the top, or inside `pools.<name>`."""

    pool: str = ""

    def key(self, path: str) -> str:
        """The key or path inside this layer, as `pulumi config` takes it."""
        return f"pools{step(self.pool)}.{path}" if self.pool else path

    def set_command(self, path: str, value: object) -> str:
        """A value that begins with a hyphen would be taken for an option of `pulumi`."""
        typed = "--type string " if isinstance(value, Text) and LOOKS_TYPED.fullmatch(value) else ""
        end = "-- " if str(value).startswith("-") else ""
        return f"pulumi config set {typed}{self._target(path)} {end}{shell(str(value))}"

    def remove_command(self, path: str) -> str:
        return f"pulumi config rm {self._target(path)}"

    def _target(self, path: str) -> str:
        key = self.key(path)
        return f"{'--path ' if set('.[') & set(key) else ''}{shell(key)}"


def step(member: str) -> str:
    """One step of a `--path`, in brackets where it is no plain word."""
    return f".{member}" if re.fullmatch(r"[\w-]+", member) else f'["{member}"]'


def shell(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\\''") + "'"
