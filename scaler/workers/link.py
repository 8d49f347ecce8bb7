"""Where the workers of one Celery app are reached, and what can go wrong with that; no I/O but one file.

`scaler.workers.mailbox` makes connections of a `Link`; `scaler.workers.control` and
`scaler.workers.heartbeats` use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaler.broker.url import BrokerUrl, UrlFile, UrlUnusable


class ControlUnavailable(Exception):  # noqa: N818  # a fact about the broker
    """The broker did not take what was to be asked; the message says why, without a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    url_file: UrlFile
    """Holds the URL that Celery uses."""
    name: str
    """Names the queues for answers and events: no other scaler's on this broker. On Redis, where a queue
    outlives its process, two that share a name take each other's answers."""
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    """The app's `broker_transport_options`; those that name channels and keys are taken over."""
    control_exchange: str = "celery"
    """The app's setting of that name. Where it differs from the app's, no worker answers."""
    event_exchange: str = "celeryev"
    """The app's setting of that name. Where it differs from the app's, no heartbeat is heard."""

    def read_url(self) -> BrokerUrl:
        """Raises ControlUnavailable."""
        try:
            return self.url_file.broker()
        except UrlUnusable as unusable:
            raise ControlUnavailable(unusable.sentence) from unusable


@dataclass(frozen=True, slots=True)
class Command:
    """One of Celery's remote control commands, by its name in celery/worker/control.py."""

    method: str
    nodes: frozenset[str]
    """Who is to carry it out; never everybody, so that another app's workers on the exchange do not."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
