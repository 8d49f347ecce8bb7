"""Owns how the demo runs other programs, and the one error that ends it.

The output of a program is kept for the error it may end in, not shown: what the person in front of
it should know is said in a line before.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from demo.environment import ROOT

LAST_LINES = 40


class DemoError(Exception):
    """What went wrong, what it means and what mends it, ready to be printed."""


class ProgramFailed(DemoError):  # noqa: N818  # the fact, not an error class among others
    """Its message ends with the last lines of what the program said; `output` is all of it."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def say(text: str) -> None:
    print(text, flush=True)


def cache() -> Path:
    chosen = os.environ.get("CELERY_FLEET_CACHE")
    return Path(chosen).resolve() if chosen else Path.home() / ".cache" / "celery-fleet"


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    shows_errors: bool = False,
    timeout_seconds: float,
) -> str:
    """Run to the end and return stdout; `env` is added to the present environment.

    With `shows_errors`, what the program writes to stderr is the person's, as it comes.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout_seconds,
            stdout=subprocess.PIPE,
            stderr=None if shows_errors else subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError as missing:
        raise DemoError(f"{words[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise DemoError(f"`{' '.join(words)}` did not end within {timeout_seconds:.0f} s") from late
    if done.returncode != 0:
        output = (done.stdout + (done.stderr or "")).strip()
        last = "\n".join(output.splitlines()[-LAST_LINES:])
        raise ProgramFailed(f"`{' '.join(words)}` failed ({done.returncode}):\n{last}", output)
    return done.stdout


def wait_until(
    fact: Callable[[], bool], what: str, *, timeout_seconds: float, pause_seconds: float = 0.5
) -> None:
    """Poll a fact; a missed deadline is a DemoError that says what was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while not fact():
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {timeout_seconds:.0f} s")
        time.sleep(pause_seconds)
