"""Owns how the fleet looks in a terminal: one line, redrawn, and a line that stays for each change.

Where the output is no terminal, every line stays and there is one per change or ten seconds. What a
line says is a pure function of one sight of the fleet; `sight` reads those.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TextIO

BAR_WIDTH = 24
PLAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The fleet at one moment; None is unknown, never 0."""

    waiting: int | None
    """Messages queued or held by workers."""
    replicas: int
    """What the Deployment is asked to have."""
    ready: int
    reason: str
    message: str


def line(seconds: float, sight: Sight, *, most: int, highest: int) -> str:
    """`most` replicas and the `highest` number of messages so far scale the two pictures."""
    if sight.waiting is None:
        bar, count = " " * BAR_WIDTH, "unknown"
    else:
        filled = -(-sight.waiting * BAR_WIDTH // max(highest, 1))
        bar, count = "█" * filled + " " * (BAR_WIDTH - filled), f"{sight.waiting:,}"
    workers = "●" * min(sight.ready, sight.replicas) + "◌" * max(0, sight.replicas - sight.ready)
    clock = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    return f"{clock:>5}  tasks {count:>7} {bar}  workers {workers:<{most}} {sight.replicas}  {sight.reason}"


class Screen:
    """Writes the lines; remembers only what it takes to redraw and to notice a change."""

    def __init__(self, most: int, output: TextIO = sys.stdout) -> None:
        self._most = most
        self._output = output
        self._highest = 1
        self._shown: Sight | None = None
        self._stayed_at = -PLAIN_SECONDS

    def show(self, seconds: float, sight: Sight) -> None:
        self._highest = max(self._highest, sight.waiting or 0)
        text = line(seconds, sight, most=self._most, highest=self._highest)
        before, self._shown = self._shown, sight
        changed = before is None or (before.replicas, before.reason) != (sight.replicas, sight.reason)
        if self._output.isatty():
            # Carriage return and "erase to the end of the line"; a wrapped line could not be redrawn.
            width = shutil.get_terminal_size().columns - 1
            self._output.write(f"\r{text[:width]}\x1b[K")
            self._output.write(f"\n        {sight.message[: width - 8]}\n" if changed else "")
        elif changed or seconds - self._stayed_at >= PLAIN_SECONDS:
            self._stayed_at = seconds
            self._output.write(f"{text}\n")
            self._output.write(f"        {sight.message}\n" if changed else "")
        self._output.flush()

    def end(self) -> None:
        """Leave the redrawn line in peace."""
        self._output.write("\n" if self._output.isatty() else "")
        self._output.flush()
