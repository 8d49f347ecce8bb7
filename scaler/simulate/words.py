"""The form that loads and policies share on the command line: `name:key=value,key=value`.

It owns the splitting and the one error of the simulator's arguments; what the words mean is said where they
are used.
"""

from __future__ import annotations

import math
from collections.abc import Collection


class Impossible(ValueError):  # noqa: N818  # said in full in the message
    """One line: what was asked for and cannot be."""


def split(text: str) -> tuple[str, dict[str, str]]:
    """Name, and values by key. Raises Impossible."""
    name, _, rest = text.partition(":")
    values: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise Impossible(f"{text}: {part} is not key=value")
        if key in values:
            raise Impossible(f"{text}: {key} is given twice")
        values[key] = value
    if not name.strip():
        raise Impossible(f"{text!r} has no name")
    return name.strip(), values


def known(about: str, key: str, keys: Collection[str]) -> None:
    """Raises Impossible where the key is none of these."""
    if key not in keys:
        raise Impossible(f"{about}: there is no {key}; there are {', '.join(sorted(keys))}")


def number(about: str, key: str, text: str, *, least: float = 0.0) -> float:
    """Raises Impossible."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < least:
        raise Impossible(f"{about}: {key} must be a number from {least:g} on, not {text}")
    return value


def whole(about: str, key: str, text: str) -> int:
    """Raises Impossible."""
    if not text.isascii() or not text.isdigit():
        raise Impossible(f"{about}: {key} must be a whole number, not {text}")
    return int(text)
