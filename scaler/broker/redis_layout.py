"""How kombu lays out queues, unacknowledged messages and bindings in Redis: names and bytes, no I/O.

It owns the key names and what the stored bytes mean, read from kombu/transport/redis.py and
kombu/transport/virtual/exchange.py of kombu 5.7. It refuses to guess: a message whose queue cannot be
told has no queue here, and whoever counts must treat it as one that may be anybody's.

The reading is in `scaler.broker.redis_broker`; the counting is in `scaler.broker.backlog`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from scaler.broker.url import Login


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelLogin:
    """What the transport options say of the Sentinels of a `sentinel://` URL."""

    master: str = ""
    login: Login = field(default_factory=Login)
    """For the Sentinels themselves; Redis' own is in the URL."""
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The transport options that change key names, or say where the keys are; the defaults are kombu's."""

    separator: str = "\x06\x16"
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    key_prefix: str = ""
    unacked: str = "unacked"
    unacked_index: str = "unacked_index"
    visibility_seconds: float = 3600
    """A living worker gives messages back to their queues that were taken longer ago than this."""
    sentinel: SentinelLogin = field(default_factory=SentinelLogin)

    @property
    def unacked_key(self) -> str:
        """Hash of all queues of the database: delivery tag to `[message, exchange, routing key]`."""
        return self.key_prefix + self.unacked

    @property
    def unacked_index_key(self) -> str:
        """Sorted set: delivery tag to the time at which a worker took the message, by that worker's clock."""
        return self.key_prefix + self.unacked_index

    def lists_of(self, queue: str) -> tuple[str, ...]:
        """The keys of a queue's lists, one a priority step; an empty list has no key."""
        return tuple(
            f"{self.key_prefix}{queue}{self.separator}{step}" if step else f"{self.key_prefix}{queue}"
            for step in self.priority_steps
        )

    def bindings_key(self, exchange: str) -> str:
        """Set of `routing key SEP pattern SEP queue`, one a binding of the exchange."""
        return f"{self.key_prefix}_kombu.binding.{exchange}"


def layout_of(options: Mapping[str, Any]) -> Layout:
    """Read `broker_transport_options`; those that change nothing of what is read here are ignored.

    Raises ValueError, with one line for each wrong option.
    """
    default = Layout()
    wrong: list[str] = []

    def text(name: str, fallback: str, *, may_be_empty: bool, of: Mapping[str, Any] = options) -> str:
        value = of.get(name, fallback)
        if isinstance(value, str) and (value or may_be_empty):
            return value
        where = "" if of is options else "sentinel_kwargs."
        given = "" if name == "password" else f", not {value!r}"
        wrong.append(f"{where}{name} must be a text{'' if may_be_empty else ' that is not empty'}{given}")
        return fallback

    sentinels = options.get("sentinel_kwargs") or {}
    if not isinstance(sentinels, dict):
        wrong.append("sentinel_kwargs must be an object")
        sentinels = {}

    steps = options.get("priority_steps", list(default.priority_steps))
    if not isinstance(steps, list) or not steps or not all(type(step) is int and step >= 0 for step in steps):
        wrong.append(f"priority_steps must be a list of whole numbers from 0, not {steps!r}")
        steps = []
    seconds = options.get("visibility_timeout", default.visibility_seconds)
    if type(seconds) not in (int, float) or not seconds > 0:
        wrong.append(f"visibility_timeout must be a number of seconds above 0, not {seconds!r}")
        seconds = default.visibility_seconds
    layout = Layout(
        separator=text("sep", default.separator, may_be_empty=False),
        priority_steps=tuple(dict.fromkeys(steps)),
        key_prefix=text("global_keyprefix", default.key_prefix, may_be_empty=True),
        unacked=text("unacked_key", default.unacked, may_be_empty=False),
        unacked_index=text("unacked_index_key", default.unacked_index, may_be_empty=False),
        visibility_seconds=seconds,
        sentinel=SentinelLogin(
            master=text("master_name", "", may_be_empty=True),
            login=Login(
                username=text("username", "", may_be_empty=True, of=sentinels) or None,
                password=text("password", "", may_be_empty=True, of=sentinels) or None,
            ),
            tls=bool(sentinels.get("ssl", False)),
        ),
    )
    if wrong:
        raise ValueError("\n".join(wrong))
    return layout


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message was published to."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the unacked hash: a message as it was delivered."""

    address: Address
    task: str
    """Id of the task; empty where the headers have none, as in Celery's old protocol."""
    eta: float | None


def entry_in(text: bytes) -> Entry | None:
    """What is in one entry of the unacked hash, or None where the bytes are not kombu's."""
    try:
        message, exchange, routing_key = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(exchange or "", str) or not isinstance(routing_key or "", str):
        return None
    headers = _headers(message)
    task = headers.get("id")
    return Entry(
        Address(exchange or "", routing_key or ""), task if isinstance(task, str) else "", _eta(headers)
    )


def eta_in(text: bytes) -> float | None:
    """The ETA of a message in a queue's list; None where it has none, or none that can be told."""
    if _NO_ETA in text:
        return None
    try:
        return _eta(_headers(json.loads(text)))
    except (ValueError, RecursionError):
        return None


_NO_ETA: Final = b'"eta": null'
"""As Celery writes it, and never inside of an argument: there the quotes are escaped. Looking for these
bytes costs a twentieth of reading the whole message."""


def _headers(message: object) -> Mapping[str, Any]:
    headers = message.get("headers") if isinstance(message, dict) else None
    return headers if isinstance(headers, dict) else {}


def _eta(headers: Mapping[str, Any]) -> float | None:
    """Seconds since the epoch; an ETA that cannot be told is none, so that its message counts as due."""
    text = headers.get("eta")
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if moment is None or moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Binding:
    routing_key: str
    pattern: str
    """A regular expression where the exchange is a topic, else empty."""
    queue: str

    def takes(self, routing_key: str) -> bool:
        if not self.pattern:
            return self.routing_key == routing_key
        pattern = _compiled(self.pattern)
        return pattern is not None and pattern.match(routing_key) is not None


def bindings_in(members: Iterable[bytes], separator: str) -> tuple[Binding, ...]:
    """The bindings that an exchange's set holds; members of another form are left out."""
    split = (member.decode(errors="replace").split(separator) for member in members)
    return tuple(Binding(*parts) for parts in split if len(parts) == 3)


def queues_of_message(address: Address, bindings: Iterable[Binding]) -> frozenset[str]:
    """The queues that a message at this address went to; empty where that cannot be told.

    The empty exchange delivers to the queue that the routing key names, and Celery publishes so to any
    queue of a direct exchange (celery/app/amqp.py). Elsewhere only bindings deliver; where none matches
    now, one did when the message was published, so it may be any queue's.
    A message in several queues has one delivery tag for all its copies.
    """
    if not address.exchange:
        return frozenset({address.routing_key}) if address.routing_key else frozenset()
    return frozenset(binding.queue for binding in bindings if binding.takes(address.routing_key))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None
