"""Owns looking at something again and again, beside what else is done: in a thread, until the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

END_SECONDS = 30


@contextmanager
def repeated(look: Callable[[], None], *, pause_seconds: float, passing: type[Exception]) -> Iterator[None]:
    """Call `look` after each pause. One that fails in a `passing` way is left out."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(pause_seconds):
            with suppress(passing):
                look()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        stop.set()
        follower.join(END_SECONDS)
