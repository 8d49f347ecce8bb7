"""A trouble: one thing that is not as it should be, with its reason, its patience and its cure.

It owns the word that `infra.live.rollout` and `infra.live.containers` speak and `infra.live.readiness`
weighs. It holds no rule of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

NEVER: Final = math.inf
"""Patience of a trouble that something else will end, one way or the other."""
WRITTEN_OFF_SECONDS: Final = 15
"""A state that kubelet or a controller itself retries. Two tries of a pull or of a missing Secret lie
within: kubelet's back-off starts at 10 s (pkg/kubelet/kubelet.go, imageBackOffPeriod)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    ready_seconds: float = 60
    image_seconds: float = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is not as it should be."""

    key: str
    """The same from poll to poll for as long as it is the same trouble: its clock hangs on it."""
    subject: str
    what: str
    cure: str = ""
    patience: float
    """Seconds that it may last."""
    clears_after: float | None = None
    """It is no trouble any more once it has lasted this long."""
    starting: bool = False
    """The thing is on its way; what crashes meanwhile may be waiting for it."""
    crash: bool = False
    capacity: bool = False
    """Only more of the same is missing."""

    @property
    def sentence(self) -> str:
        return f"{self.subject}: {self.what}" + (f" {self.cure}" if self.cure else "")


def brief(text: str) -> str:
    """One line of at most 400 characters, without the full stop that our sentence adds."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 400 else f"{line[:397]}..."
