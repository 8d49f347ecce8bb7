"""How a setting is described: a dataclass field whose metadata says what people need to know of it.

It owns the form, `infra.settings.fields` the settings. It reads and checks no values.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

ConfigType = Literal["string", "integer", "boolean", "array", "object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of one key of the stack's configuration."""

    name: str
    type: ConfigType
    default: Any
    meaning: str
    """What it is, with its unit, and why this default."""
    too_low: str = ""
    """What a value below `low`, or a missing one, would cause."""
    too_high: str = ""
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    items: ConfigType = "string"
    secret: bool = False

    @property
    def description(self) -> str:
        """One paragraph for people who choose a value."""
        parts = [self.meaning]
        parts += [f"One of {', '.join(self.choices)}."] if self.choices else []
        short = "Too low" if self.type == "integer" else "Without it"
        parts += [f"{short}: {self.too_low}."] if self.too_low else []
        parts += [f"Too high: {self.too_high}."] if self.too_high else []
        return " ".join(parts)


def setting(type_: ConfigType, default: Any, meaning: str, *, name: str = "", **rest: Any) -> Any:
    """A dataclass field that carries its own description."""
    metadata = {"type": type_, "default": default, "meaning": meaning, "name": name, **rest}
    return dataclasses.field(
        default_factory=lambda: default, metadata=metadata, repr=not rest.get("secret", False)
    )


def container_resources(cpu: str, memory: str, most_cpu: str, most_memory: str, note: str = "") -> Any:
    """A dataclass field that holds a container's `resources`, with these requests and limits as default."""
    return setting(
        "object",
        {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": most_cpu, "memory": most_memory}},
        f"Requests and limits, in the shape of a container's `resources`. {note}".strip(),
        too_low="one pod without a memory limit can take the whole node's memory",
    )


def settings_of(owner: type[Any]) -> dict[str, Setting]:
    """The settings that a class holds, by the names of its fields; its own before those it inherits."""
    found = {}
    own = owner.__annotations__
    for entry in sorted(dataclasses.fields(owner), key=lambda entry: entry.name not in own):
        if entry.metadata:
            head, *tail = entry.name.split("_")
            name = entry.metadata["name"] or head + "".join(word.title() for word in tail)
            found[entry.name] = Setting(**{**entry.metadata, "name": name})
    return found
