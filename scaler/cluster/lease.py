"""One scaler per namespace: holds a Lease, and says at any time whether it may still write.

It owns when to take, renew and give back; the requests are its store's (`scaler.cluster.client`). The rules
are client-go's (k8s.io/client-go/tools/leaderelection): a foreign lease counts as abandoned when it has not
changed for its duration by our own clock, so clocks need not agree between nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from scaler.cluster.objects import ClusterFailure, Kind

DURATION_SECONDS: Final = 15
"""How long an abandoned lease keeps the next scaler waiting."""
RENEW_SECONDS: Final = 5
TRUST_SECONDS: Final = 10
"""How long after a renewal the holder writes. Below the duration, or two could write at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    holder: str
    """Empty where nobody holds it."""
    version: str
    duration_seconds: int = DURATION_SECONDS
    transitions: int = 0


class LeaseStore(Protocol):
    """Each raises ClusterFailure; a lost race is CONFLICT."""

    async def read_lease(self) -> LeaseRecord | None: ...
    async def create_lease(self, holder: str, at: float) -> LeaseRecord: ...
    async def write_lease(self, holder: str, seen: LeaseRecord, at: float) -> LeaseRecord: ...


class Lease:
    def __init__(self, store: LeaseStore, identity: str) -> None:
        self._store = store
        self._identity = identity
        self._mine: LeaseRecord | None = None
        self._renewed_at = 0.0
        self._seen: LeaseRecord | None = None
        self._seen_at = 0.0

    def held(self, at: float) -> bool:
        """Whether nobody else can hold it: asked before each write, for a paused process may wake late."""
        return self._mine is not None and self._renewed_at <= at < self._renewed_at + TRUST_SECONDS

    @property
    def holder(self) -> str | None:
        """Who holds it, as far as was seen."""
        record = self._mine or self._seen
        return record.holder if record else None

    async def keep(self, at: float) -> None:
        """Take it or renew it where that is due: a renewal is one PUT. Raises ClusterFailure."""
        if self._mine is not None and self._renewed_at <= at < self._renewed_at + RENEW_SECONDS:
            return
        try:
            if self._mine is None:
                self._mine = await self._take(at)
            else:
                self._mine = await self._store.write_lease(self._identity, self._mine, at)
        except ClusterFailure as failure:
            if failure.kind in (Kind.CONFLICT, Kind.NOT_FOUND):
                self._mine = None
            raise
        if self._mine is not None:
            self._renewed_at = at

    async def release(self, at: float) -> None:
        """Give it back so that the next scaler need not wait. Raises ClusterFailure."""
        mine, self._mine = self._mine, None
        if mine is not None:
            await self._store.write_lease("", mine, at)

    async def _take(self, at: float) -> LeaseRecord | None:
        found = await self._store.read_lease()
        if found is None:
            return await self._store.create_lease(self._identity, at)
        if self._seen is None or self._seen.version != found.version:
            self._seen, self._seen_at = found, at
        abandoned = at >= self._seen_at + found.duration_seconds
        if found.holder in ("", self._identity) or abandoned:
            return await self._store.write_lease(self._identity, found, at)
        return None


class Spectator:
    """In the place of a Lease: never leads, so nothing is ever written."""

    def held(self, at: float) -> bool:  # noqa: ARG002  # the same at all times
        return False

    async def keep(self, at: float) -> None:
        pass

    async def release(self, at: float) -> None:
        pass
