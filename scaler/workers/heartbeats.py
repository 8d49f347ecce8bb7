"""Listens to what Celery workers say unasked: a heartbeat every 2 s, that they come and that they go.

It owns one thread with a connection of its own, and the last word of each worker. It judges nobody: a
worker that was never heard may be silent, or we may have begun to listen a moment ago, so `Heard` says
since when we listen. Heartbeats need no setting of the app and no `-E`; `--without-heartbeat` blinds us.

The events are those of celery/worker/heartbeat.py; the connection is made in `scaler.workers.mailbox`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeGuard

from scaler.workers.answers import Heard, Heartbeat
from scaler.workers.link import ControlUnavailable, Link
from scaler.workers.mailbox import EventStream

FORGET_SECONDS: Final = 900.0
"""Silence after which a worker's last word is dropped: long enough that no judgement waits for it."""
MAX_NODES: Final = 10_000
"""Names that are kept; whoever can publish to the broker could otherwise fill our memory."""
MAX_NAME_LENGTH: Final = 512
MAX_BACK_OFF_SECONDS: Final = 10.0
_OFFLINE: Final = "worker-offline"
_EVENTS: Final = frozenset({"worker-online", "worker-heartbeat", _OFFLINE})


class HeartbeatListener:
    """Keeps the last heartbeat of each worker, from `start` to `close`."""

    def __init__(self, link: Link, *, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, Heartbeat] = {}
        self._since: float | None = None
        self._failure: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop within a second; where the broker hangs, the thread ends by itself a little later."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def heard(self) -> Heard:
        horizon = self._clock() - FORGET_SECONDS
        with self._lock:
            self._last = {node: beat for node, beat in self._last.items() if beat.at >= horizon}
            return Heard(since=self._since, last=dict(self._last), failure=self._failure)

    def _run(self) -> None:
        back_off = 0.5
        while not self._closing.is_set():
            begin = self._clock()
            try:
                self._listen()
                continue
            except ControlUnavailable as failure:
                self._set(None, str(failure))
            except Exception as error:  # a thread that ended would leave every worker silent for ever
                self._set(None, f"listening to workers failed: {error!r:.200}")
            if self._clock() - begin > MAX_BACK_OFF_SECONDS:
                back_off = 0.5
            self._closing.wait(back_off)
            back_off = min(2 * back_off, MAX_BACK_OFF_SECONDS)

    def _listen(self) -> None:
        """Until closed, or until the file has another URL. Raises ControlUnavailable."""
        with EventStream(self._link) as stream:
            self._set(self._clock(), None)
            while not self._closing.is_set() and self._link.read_url() == stream.url:
                events = stream.read()
                at = self._clock()
                for event in events:
                    self._take(event, at)

    def _set(self, since: float | None, failure: str | None) -> None:
        with self._lock:
            self._since, self._failure = since, failure

    def _take(self, event: Mapping[str, object], at: float) -> None:
        node = event.get("hostname")
        kind, active, processed = event.get("type"), event.get("active"), event.get("processed")
        if not isinstance(kind, str) or kind not in _EVENTS:
            return
        if not isinstance(node, str) or not 0 < len(node) <= MAX_NAME_LENGTH:
            return
        if not _is_natural(active) or not _is_natural(processed):
            return
        with self._lock:
            if node in self._last or len(self._last) < MAX_NODES:
                self._last[node] = Heartbeat(
                    at=at, active=active, processed=processed, offline=kind == _OFFLINE
                )


def _is_natural(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0
