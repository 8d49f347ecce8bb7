"""Who may write: taking, renewing, losing and giving back the Lease, with time as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from scaler.cluster.lease import DURATION_SECONDS, Lease, LeaseRecord, Spectator
from scaler.cluster.objects import ClusterFailure, Kind
from tests.scaler.samples import AT


@dataclass(slots=True)
class FakeStore:
    """One Lease in memory, with the API server's optimistic locking."""

    record: LeaseRecord | None = None
    calls: list[str] = field(default_factory=list)
    away: bool = False

    async def read_lease(self) -> LeaseRecord | None:
        self._called("get")
        return self.record

    async def create_lease(self, holder: str, at: float) -> LeaseRecord:
        assert at >= AT
        self._called("create")
        if self.record is not None:
            raise ClusterFailure(Kind.CONFLICT, "exists")
        self.record = LeaseRecord(holder=holder, version="1")
        return self.record

    async def write_lease(self, holder: str, seen: LeaseRecord, at: float) -> LeaseRecord:
        assert at >= AT
        self._called("update")
        if self.record is None or self.record.version != seen.version:
            raise ClusterFailure(Kind.CONFLICT, "changed")
        self.record = replace(self.record, holder=holder, version=f"{int(seen.version) + 1}")
        return self.record

    def _called(self, verb: str) -> None:
        self.calls.append(verb)
        if self.away:
            raise ClusterFailure(Kind.UNREACHABLE, "away")


async def test_first_scaler_takes_it() -> None:
    """Where there is none it is made, and held from then on."""
    store = FakeStore()
    lease = Lease(store, "a")
    before = lease.held(AT)
    await lease.keep(AT)

    assert (before, lease.held(AT), store.calls) == (False, True, ["get", "create"])


async def test_renewal_is_one_put_each_five_seconds() -> None:
    """Half a minute of keeping it costs five requests, and no GET."""
    store = FakeStore()
    lease = Lease(store, "a")
    await lease.keep(AT)
    store.calls.clear()

    for second in range(1, 30):
        await lease.keep(AT + second)
        assert lease.held(AT + second)

    assert store.calls == ["update"] * 5


async def test_second_scaler_waits_until_it_is_given_back() -> None:
    """The next takes it with the first look after the release."""
    store = FakeStore()
    first, second = Lease(store, "a"), Lease(store, "b")
    await first.keep(AT)
    await second.keep(AT + 1)
    refused = second.held(AT + 1)
    await first.release(AT + 2)
    await second.keep(AT + 3)

    assert (refused, first.held(AT + 2), second.held(AT + 3)) == (False, False, True)


async def test_abandoned_lease_is_taken_after_its_duration() -> None:
    """By the waiting scaler's own clock, from when it last saw a change."""
    store = FakeStore(LeaseRecord(holder="dead", version="7"))
    lease = Lease(store, "b")
    await lease.keep(AT)
    await lease.keep(AT + DURATION_SECONDS - 1)
    early = lease.held(AT + DURATION_SECONDS - 1)
    await lease.keep(AT + DURATION_SECONDS)

    assert (early, lease.held(AT + DURATION_SECONDS)) == (False, True)


async def test_renewed_lease_is_not_abandoned() -> None:
    """A change of any kind shows that its holder lives."""
    store = FakeStore(LeaseRecord(holder="alive", version="7"))
    lease = Lease(store, "b")
    await lease.keep(AT)
    store.record = LeaseRecord(holder="alive", version="8")
    await lease.keep(AT + DURATION_SECONDS)

    assert not lease.held(AT + DURATION_SECONDS)


async def test_same_identity_takes_its_own_at_once() -> None:
    """A container that restarts in its pod goes on without a wait."""
    lease = Lease(FakeStore(LeaseRecord(holder="a", version="7")), "a")
    await lease.keep(AT)

    assert lease.held(AT)


async def test_holder_that_cannot_renew_stops_writing_before_another_may_start() -> None:
    """Away from the API server for ten seconds, it no longer trusts its lease; others wait fifteen."""
    store = FakeStore()
    lease = Lease(store, "a")
    await lease.keep(AT)
    store.away = True
    with pytest.raises(ClusterFailure):
        await lease.keep(AT + 6)

    assert (lease.held(AT + 9.9), lease.held(AT + 10)) == (True, False)
    store.away = False
    await lease.keep(AT + 11)
    assert lease.held(AT + 11)


async def test_holder_that_lost_it_stops_at_once() -> None:
    """A conflict means that somebody else has it."""
    store = FakeStore()
    lease = Lease(store, "a")
    await lease.keep(AT)
    store.record = LeaseRecord(holder="b", version="99")
    with pytest.raises(ClusterFailure):
        await lease.keep(AT + 6)

    assert not lease.held(AT + 6)
    await lease.keep(AT + 7)
    assert not lease.held(AT + 7)


async def test_clock_that_goes_back_is_not_trusted() -> None:
    """A step back of the clock would stretch the ten seconds."""
    lease = Lease(FakeStore(), "a")
    await lease.keep(AT + 60)

    assert not lease.held(AT)


async def test_release_without_a_lease_asks_nothing() -> None:
    """Who never held it has nothing to give back."""
    store = FakeStore()
    await Lease(store, "a").release(AT)

    assert store.calls == []


async def test_spectator_never_leads() -> None:
    """--dry-run: whatever it keeps, it may not write."""
    spectator = Spectator()
    await spectator.keep(AT)

    assert not spectator.held(AT)
