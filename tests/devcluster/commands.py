"""Owns how external commands are run and how this package speaks to the person in front of it.

A command that fails becomes a `DevclusterError` that carries the end of what it printed.
Long-running processes are no commands: `processes` starts and stops those.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class DevclusterError(Exception):
    """What went wrong, what it means and what mends it, ready to be printed."""


def say(text: str) -> None:
    # stderr, so that `kubeconfig` and `status` stay usable in a pipe.
    print(text, file=sys.stderr, flush=True)


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Run to the end and return stdout; `env` is added to the present environment."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout_seconds,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as missing:
        raise DevclusterError(f"{words[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise DevclusterError(f"{words[0]} did not end within {timeout_seconds:.0f} s") from late
    if done.returncode != 0:
        output = "\n".join((done.stderr + done.stdout).strip().splitlines()[-25:])
        raise DevclusterError(f"`{' '.join(words)}` failed ({done.returncode}):\n{output}")
    return done.stdout


def succeeds(argv: Sequence[str | Path]) -> bool:
    """For questions whose answer is an exit code."""
    try:
        run(argv, timeout_seconds=30)
    except DevclusterError:
        return False
    return True
