"""The options of `celery worker` that `extraArgs` may hold, and those that it may not.

It owns the reading of an argument list as click reads it (`--name value`, `--name=value`, `-n value`,
`-nvalue`, `-BE`), and why the stack keeps some options to itself. The options are those of Celery 5.7
(celery/bin/worker.py); one that is not known here is left to Celery to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_LONG: Final = {
    "A": "app",
    "B": "beat",
    "D": "detach",
    "E": "task-events",
    "I": "include",
    "O": "optimization",
    "P": "pool",
    "Q": "queues",
    "S": "statedb",
    "X": "exclude-queues",
    "b": "broker",
    "c": "concurrency",
    "f": "logfile",
    "l": "loglevel",
    "n": "hostname",
    "s": "schedule-filename",
}
_SAME: Final = {"events": "task-events", "discard": "purge", "schedule": "schedule-filename"}
_FLAGS: Final = frozenset(
    {
        "beat",
        "detach",
        "disable-prefetch",
        "purge",
        "task-events",
        "without-gossip",
        "without-heartbeat",
        "without-mingle",
    }
)

_INSTEAD: Final = {
    "app": "celeryApp",
    "queues": "queues",
    "exclude-queues": "queues",
    "concurrency": "concurrency",
    "loglevel": "logLevel",
    "max-tasks-per-child": "maxTasksPerChild",
    "prefetch-multiplier": "prefetchMultiplier",
    "disable-prefetch": "disablePrefetch",
}
REFUSED: Final = {
    **{
        name: (f"stands in the setting {key}", "workers and scaler would not mean the same")
        for name, key in _INSTEAD.items()
    },
    "hostname": ("is set by the stack", "the scaler finds the pod of a worker by this name"),
    "broker": ("is set by the stack", "the workers would use another broker than the scaler"),
    "result-backend": (
        "is set by the stack",
        "the workers would use another result backend than the stack's",
    ),
    "autoscale": (
        "changes the number of processes",
        "the scaler counts `concurrency` tasks for each worker, and adds and removes workers itself",
    ),
    "detach": ("leaves the container", "Kubernetes would take the worker for ended and start it anew"),
}
"""Long name to what is wrong with the option in `extraArgs`, and what it would cause."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of an argument list."""

    name: str
    """Its long name without hyphens in front; "" for a word that belongs to no option."""
    index: int
    """Of the argument that it stands in."""
    value: str = ""
    value_index: int = -1
    """Of the argument that the value stands in; negative where there is none."""


def options_of(arguments: Sequence[str]) -> Iterator[Option]:
    """The options, in their order."""
    index = 0
    while index < len(arguments):
        found = list(_in_one(arguments[index], index))
        last = found[-1]
        if last.name and last.name not in _FLAGS and last.value_index < 0:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
            found[-1] = Option(last.name, index, value, index + 1)
            index += 1
        yield from found
        index += 1


def _in_one(argument: str, index: int) -> Iterator[Option]:
    """The options of one argument; one whose value comes next has a negative `value_index`."""
    if argument.startswith("--") and len(argument) > 2:
        name, given, value = argument[2:].partition("=")
        yield Option(_SAME.get(name, name), index, value, index if given else -1)
    elif argument.startswith("-") and len(argument) > 1 and argument != "--":
        for position, letter in enumerate(argument[1:], start=2):
            name = _LONG.get(letter, letter)
            rest = argument[position:]
            if name not in _FLAGS:
                yield Option(name, index, rest, index if rest else -1)
                return
            yield Option(name, index)
    else:
        yield Option("", index)
