"""`python -m scaler record`: what is observed and decided, tick by tick, as JSON lines.

It owns the command's words and when a file is opened. It looks with the scaler's
environment, beside the running scaler or without one, and writes nothing but the recording.

The format is `scaler.recording`'s, the loop `scaler.onlooker`'s; `python -m scaler simulate` replays a file.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from scaler.cluster.objects import Pod
from scaler.contract import Policy
from scaler.onlooker import Judged, look, no_pool, settings_in
from scaler.pool.crew import node_of
from scaler.recording import Beat, Decided, Header, NewPolicy, Seen, Tick, spec_of, text_of
from scaler.settings import Settings
from scaler.wiring import Wired
from scaler.workers.answers import Heard


def record(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="scaler record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", help="of one pool: its Celery object (default: all pools)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a new file (default: standard output)")
    parser.add_argument("--seconds", type=float, help="how long (default: until Ctrl-C)")
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.exists():
        sys.stderr.write(f"{options.output} exists: name a new file\n")
        return 2
    settings = settings_in(environ)
    if settings is None:
        return 2
    recorder = Recorder(settings, name=options.name, output=options.output, seconds=options.seconds)
    try:
        return asyncio.run(look(settings, recorder.take)) or recorder.code
    finally:
        recorder.close()


class Recorder:
    """Opens the file with the first tick, so that a run that sees nothing leaves none."""

    def __init__(
        self, settings: Settings, *, name: str | None, output: Path | None, seconds: float | None
    ) -> None:
        self.code = 0
        self._settings = settings
        self._name = name
        self._output = output
        self._until = None if seconds is None else time.monotonic() + seconds
        self._file: TextIO | None = None
        self._policies: dict[str, Policy] = {}

    def take(self, scaler: Wired, at: float, judged: Sequence[Judged]) -> bool:
        """One tick; whether there is to be another."""
        try:
            return self._take(scaler, at, judged)
        except BrokenPipeError:
            return False  # whoever reads has seen enough
        except OSError as error:
            sys.stderr.write(f"{self._output or 'standard output'}: {error.strerror}\n")
            self.code = 1
            return False

    def close(self) -> None:
        if self._file is not None and self._file is not sys.stdout:
            self._file.close()

    def _take(self, scaler: Wired, at: float, judged: Sequence[Judged]) -> bool:
        wanted = [each for each in judged if self._name in (None, each.pool.name)]
        if self._file is None:
            if self._name is not None and not wanted:
                names = [each.pool.name for each in judged]
                sys.stderr.write(f"{no_pool(self._name, self._settings.namespace, names)}\n")
                self.code = 1
                return False
            if not self._tell_of_invalid(wanted):
                return False
            self._begin(wanted)
        pods, heard = scaler.namespace.snapshot().pods, scaler.ear.heard()
        for each in wanted:
            self._put(at, each, pods.get(each.deployment.name, ()) if each.deployment else (), heard)
        if self._file is not None:
            self._file.flush()
        return self._until is None or time.monotonic() < self._until

    def _tell_of_invalid(self, judged: Sequence[Judged]) -> bool:
        """Say which pools have no policy to record; whether the one that is wanted has one."""
        invalid = [each.pool for each in judged if each.pool.policy is None]
        for pool in invalid:
            wrong = pool.celery.invalid
            sys.stderr.write(f"{pool.name} cannot be recorded, its spec was never valid: {wrong}\n")
        if invalid and self._name is not None:
            self.code = 1
            return False
        return True

    def _begin(self, judged: Sequence[Judged]) -> None:
        self._file = sys.stdout if self._output is None else self._output.open("x", encoding="utf-8")
        self._policies = {each.pool.name: each.pool.policy for each in judged if each.pool.policy}
        pools = {name: spec_of(name, policy) for name, policy in self._policies.items()}
        self._write(
            Header(namespace=self._settings.namespace, poll_seconds=self._settings.poll_seconds, pools=pools)
        )

    def _put(self, at: float, judged: Judged, pods: Sequence[Pod], heard: Heard) -> None:
        name, policy = judged.pool.name, judged.pool.policy
        if policy is None:
            return  # its spec was never valid: there is nothing that it could be compared by
        if self._policies.get(name) != policy:
            self._policies[name] = policy
            self._write(NewPolicy(at=at, pool=name, spec=spec_of(name, policy)))
        self._write(tick_of(at, judged, pods, heard))

    def _write(self, line: Header | NewPolicy | Tick) -> None:
        if self._file is not None:
            self._file.write(f"{text_of(line)}\n")


def tick_of(at: float, judged: Judged, pods: Sequence[Pod], heard: Heard) -> Tick:
    report, decision = judged.report, judged.report.decision
    return Tick(
        at=at,
        pool=judged.pool.name,
        ready=report.ready,
        observation=report.observation,
        decided=None
        if decision is None
        else Decided(
            desired_replicas=decision.desired_replicas,
            reason=decision.reason,
            message=decision.message,
            limited=decision.limited,
        ),
        seen=Seen(
            replicas=report.replicas,
            running=report.active,
            capacity=report.capacity,
            beats={
                pod.name: Beat(at=beat.at, processed=beat.processed)
                for pod in pods
                # What a container before this one said is of no use.
                if (beat := heard.last.get(node_of(pod.name))) and beat.at >= (pod.running_since or at)
            },
            not_due=report.not_due,
            leaving=tuple(victim.pod for victim in judged.pool.leaving),
        ),
    )
