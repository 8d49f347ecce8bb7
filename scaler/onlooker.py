"""The loop of a command that only looks: it observes and decides as the scaler does, and writes nothing.

It owns such a command's settings, its failures on standard error, and what it is told of each tick. It never
leads, so no worker is asked or told anything: what only an answer would show stays unknown.

`scaler.commands.explain` and `scaler.commands.record` are such commands; `scaler.loop` turns for them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import ClusterFailure, Deployment
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.settings import Settings, WrongEnvironment, load
from scaler.wiring import Wired, wired

FIRST_LOOK_SECONDS = 15.0
"""How long the cluster may give no answer at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a tick says of one pool."""

    pool: Pool
    report: Report
    deployment: Deployment | None


Look = Callable[[Wired, float, Sequence[Judged]], bool]
"""Takes what a tick at this time says of all pools; whether there is to be another one."""


def settings_in(environ: Mapping[str, str]) -> Settings | None:
    """The scaler's own settings; None where they are wrong, which was said."""
    try:
        return load(environ)
    except WrongEnvironment as error:
        sys.stderr.write(f"{error}\n")
        return None


def no_pool(name: str, namespace: str, names: Sequence[str]) -> str:
    """What is said where nobody knows the pool that was asked for."""
    known = f"there are {', '.join(sorted(names))}" if names else "there is none"
    return f"no pool {name} in namespace {namespace}: {known}"


async def look(settings: Settings, take: Look) -> int:
    """Turn until `take` has enough or the process is told to stop. Returns 0, or 1 where nothing was seen."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    onlooker = _Onlooker(take, stop)
    try:
        async with wired(settings, onlooker, dry_run=True) as scaler:
            onlooker.scaler = scaler
            asyncio.get_running_loop().call_later(FIRST_LOOK_SECONDS, onlooker.give_up)
            await scaler.loop.run(stop)
    except ClusterFailure as failure:
        onlooker.failed("starting", failure)
    return 0 if onlooker.looked else 1


class _Onlooker:
    """In the place of the scaler's telemetry."""

    def __init__(self, take: Look, stop: asyncio.Event) -> None:
        self.scaler: Wired | None = None
        self.looked = False
        self._take = take
        self._stop = stop
        self._judged: list[Judged] = []
        self._said = ""

    def give_up(self) -> None:
        if not self.looked:
            self._say(self._said or "the namespace could not be read")
            self._stop.set()

    def judged(self, pool: Pool, report: Report, deployment: Deployment | None) -> None:
        self._judged.append(Judged(pool=pool, report=report, deployment=deployment))

    def ticked(self, at: float, *, good: bool, leading: bool) -> None:  # noqa: ARG002  # the loop's Telemetry
        judged, self._judged = self._judged, []
        if self._stop.is_set() or self.scaler is None:
            return
        self.looked = True
        if not self._take(self.scaler, at, judged):
            self._stop.set()

    def failed(self, doing: str, failure: ClusterFailure) -> None:
        self._say(f"{doing}: {failure.sentence}")

    def crashed(self, doing: str, error: Exception) -> None:
        self._say(f"{doing}: {error!r}")

    def unheard(self, doing: str, failure: str) -> None:
        self._say(f"{doing}: {failure}")

    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None:
        """A failure is in every pool's report."""

    def scaled(self, pool: Pool, before: int, after: int) -> None:
        """Never: it writes nothing."""

    def forgot(self, name: str) -> None:
        """Its lines just end."""

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            sys.stderr.write(f"{sentence}\n")
