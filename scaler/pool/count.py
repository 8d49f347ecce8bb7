"""How sure a number is: the range that successful reads leave open.

It owns the arithmetic of such ranges and nothing else. Who makes them says what is counted:
`scaler.broker.backlog` messages, `scaler.pool.crew` tasks; `scaler.pool.decision` takes them. Why there are
ranges at all is in docs/decisions/0002-a-count-is-a-range.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are, as far as successful reads tell: at least `low`, at most `high`.

    `high` is None where no read bounds it. Unknown is not zero: what could not be read is
    `Count(0, None)`, and a zero that was read is `Count(0, 0)`.
    """

    low: int
    high: int | None

    @classmethod
    def exactly(cls, value: int) -> Count:
        return cls(value, value)

    @property
    def exact(self) -> int | None:
        """The number where it is known for certain, else None."""
        return self.low if self.low == self.high else None

    def __add__(self, other: Count) -> Count:
        high = None if self.high is None or other.high is None else self.high + other.high
        return Count(self.low + other.low, high)

    def less(self, known: int) -> Count:
        """Without `known` of them."""
        return Count(max(0, self.low - known), None if self.high is None else max(0, self.high - known))

    def __str__(self) -> str:
        if self.exact is not None:
            return str(self.low)
        return f"at least {self.low}" if self.high is None else f"{self.low} to {self.high}"


UNKNOWN = Count(0, None)
NOTHING = Count(0, 0)
