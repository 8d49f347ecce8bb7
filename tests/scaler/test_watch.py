"""List, then watch: missed, repeated, late and broken events all end at what the server has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from scaler.cluster import watch
from scaler.cluster.objects import ClusterFailure, Kind
from scaler.cluster.watch import OPENED, Watched


def thing(name: str, version: int, value: str = "") -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(name=name, resource_version=str(version)), value=value)


@dataclass(slots=True)
class FakeSource:
    """Lists and streams in the order in which a test wrote them down; then it is silent."""

    lists: list[list[Any] | ClusterFailure] = field(default_factory=list)
    streams: list[list[Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """`list`, or the version from which a stream was asked for."""

    async def pages(self) -> AsyncIterator[tuple[str, list[Any]]]:
        self.asked.append("list")
        found = self.lists.pop(0) if self.lists else []
        if isinstance(found, ClusterFailure):
            raise found
        half = len(found) // 2
        yield "100", found[:half]
        yield "100", found[half:]

    async def events(self, version: str) -> AsyncIterator[tuple[str, Any]]:
        self.asked.append(version)
        if not self.streams:
            yield OPENED, None
            await asyncio.Event().wait()
        for event in self.streams.pop(0):
            if isinstance(event, ClusterFailure):
                raise event
            yield event


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(watch, "FORBIDDEN_WAIT_SECONDS", 0.05)


@contextlib.asynccontextmanager
async def following(
    source: FakeSource, reached: Callable[[Watched[str]], bool]
) -> AsyncIterator[Watched[str]]:
    """The watch's state once it is as it should become."""
    watched: Watched[str] = Watched(source, lambda found, _: found.value or None)
    task = asyncio.create_task(watched.follow())
    deadline = time.monotonic() + 10
    try:
        while not reached(watched):
            assert time.monotonic() < deadline, (watched.items, source.asked)
            await asyncio.sleep(0.005)
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_list_and_changes_make_the_picture() -> None:
    """All pages of the list, then what is added, changed and deleted."""
    source = FakeSource(
        lists=[[thing("a", 1, "a1"), thing("b", 2, "b1"), thing("c", 3, "c1")]],
        streams=[
            [
                (OPENED, None),
                ("MODIFIED", thing("a", 101, "a2")),
                ("ADDED", thing("d", 102, "d1")),
                ("DELETED", thing("b", 103, "b1")),
            ]
        ],
    )
    async with following(source, lambda seen: "b" not in seen.items and "d" in seen.items) as watched:
        assert watched.items == {"a": "a2", "c": "c1", "d": "d1"}


async def test_stream_that_ends_is_taken_up_where_it_ended() -> None:
    """The server ends each stream in time; a bookmark says from where to go on, without a list."""
    source = FakeSource(lists=[[]], streams=[[(OPENED, None), ("BOOKMARK", thing("", 150))]])
    async with following(source, lambda _: len(source.asked) == 3):
        assert source.asked == ["list", "100", "150"]


@pytest.mark.parametrize("kind", [Kind.GONE, Kind.UNREACHABLE, Kind.SLOW_DOWN, Kind.FORBIDDEN])
async def test_broken_stream_means_a_new_list(kind: Kind) -> None:
    """R9: what was missed meanwhile is in the list, and what is not there is gone."""
    source = FakeSource(
        lists=[[thing("a", 1, "a1"), thing("b", 1, "b1")], [thing("a", 200, "a2")]],
        streams=[[(OPENED, None), ClusterFailure(kind, "no")]],
    )
    async with following(source, lambda seen: seen.items == {"a": "a2"} and seen.failure is None):
        assert source.asked == ["list", "100", "list", "100"]


async def test_compacted_changes_are_no_failure() -> None:
    """410 Gone is the ordinary end of a quiet watch: listed again at once, held against nobody."""
    source = FakeSource(lists=[[]], streams=[[(OPENED, None), ClusterFailure(Kind.GONE, "too old")]])
    async with following(source, lambda _: len(source.asked) == 4) as watched:
        assert watched.failure is None


async def test_failure_is_kept_until_a_watch_opens() -> None:
    """As long as the picture may be old, it says so, and keeps what it has."""
    source = FakeSource(
        lists=[[thing("a", 1, "a1")], *[ClusterFailure(Kind.UNREACHABLE, "away")] * 3, [thing("a", 9, "a9")]],
        streams=[[(OPENED, None), ClusterFailure(Kind.UNREACHABLE, "away")]],
    )
    async with following(source, lambda _: source.asked.count("list") == 3) as watched:
        assert (watched.items, watched.failure and watched.failure.kind) == ({"a": "a1"}, Kind.UNREACHABLE)
    async with following(source, lambda seen: seen.failure is None and "a" in seen.items) as watched:
        assert watched.items == {"a": "a9"}


async def test_nothing_is_known_before_the_first_list() -> None:
    """An empty picture is told from one that was never taken."""
    source = FakeSource(lists=[ClusterFailure(Kind.FORBIDDEN, "no")] * 2)
    async with following(source, lambda seen: seen.failure is not None) as watched:
        assert not watched.listed
    async with following(source, lambda seen: seen.listed) as watched:
        assert watched.items == {}


async def test_waits_grow_and_end_with_the_trouble() -> None:
    """R12: a right that is missing is asked for twice a minute, other trouble with growing pauses."""
    watched: Watched[str] = Watched(FakeSource(), lambda *_: None)
    waits = [watched._wait_seconds(ClusterFailure(Kind.UNREACHABLE, "")) for _ in range(12)]  # noqa: SLF001
    asked = watched._wait_seconds(ClusterFailure(Kind.SLOW_DOWN, "", 60))  # noqa: SLF001

    assert waits[0] <= 0.01
    assert 5 <= waits[-1] <= 10
    assert asked == 60
