"""What is known of a delivery tag between the read that shows it and the read of its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaler.broker.redis_layout import Layout
from scaler.broker.unacked import Attribution, Command
from scaler.pool.count import Count


class Hash:
    """The unacked hash as it answers, entry by entry."""

    def __init__(self, **entries: bytes) -> None:
        self.entries = entries

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        return [self._answer(*command) for command in commands]

    def _answer(self, verb: str | bytes | int, _key: str | bytes | int, tag: str | bytes | int = b"") -> Any:
        assert isinstance(tag, bytes)
        entry = self.entries.get(tag.decode())
        if verb == "HSTRLEN":
            return len(entry or b"")
        return entry if verb == "HGET" else []


async def test_message_acknowledged_meanwhile_counts_no_more() -> None:
    """Its tag was listed and its body is gone: that is certain, not unknown."""
    attribution = Attribution(Layout())
    await attribution.learn([b"t"], Hash().ask)

    assert attribution.tally([b"t"], [], 0.0).due.of(["sums"]) == Count(0, 0)


async def test_message_that_comes_back_under_its_tag_counts_again() -> None:
    """A message returned to its queue and taken anew has the tag that it had."""
    attribution = Attribution(Layout())
    await attribution.learn([b"t"], Hash().ask)
    await attribution.learn([b"t"], Hash(t=b'["m", "", "sums"]').ask)

    assert attribution.tally([b"t"], [], 0.0).due.of(["sums"]) == Count(1, 1)


async def test_body_that_was_refused_is_asked_for_again() -> None:
    """An error in the place of a body leaves the count a lower bound until it can be read."""

    async def refuse(commands: Sequence[Command]) -> list[Any]:
        return [9 if command[0] == "HSTRLEN" else ValueError("no") for command in commands]

    attribution = Attribution(Layout())
    await attribution.learn([b"t"], refuse)
    refused = attribution.tally([b"t"], [], 0.0).due.of(["sums"])
    await attribution.learn([b"t"], Hash(t=b'["m", "", "sums"]').ask)

    assert refused == Count(0, None)
    assert attribution.tally([b"t"], [], 0.0).due.of(["sums"]) == Count(1, 1)
