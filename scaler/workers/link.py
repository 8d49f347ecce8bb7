"""Where the workers of one Celery app are reached, and what can go wrong with that; no I/O but one file.

`scaler.workers.mailbox` makes connections of a `Link`; `scaler.workers.control` and
`scaler.workers.heartbeats` use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scaler.broker.redis_url import RedisUrl, redis_url


class ControlUnavailable(Exception):  # noqa: N818  # a fact about the broker
    """The broker did not take what was to be asked; the message says why, without a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    url_file: Path
    """Holds the URL that Celery uses; a mounted Secret, so it is read again for every use."""
    name: str
    """Names the one queue for answers: the same after a restart, and no other scaler's on this broker.
    Two that share a name take each other's answers, and both find their workers silent."""
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    """The app's `broker_transport_options`; those that name channels and keys are taken over."""
    control_exchange: str = "celery"
    """The app's setting of that name. Where it differs from the app's, no worker answers."""
    event_exchange: str = "celeryev"
    """The app's setting of that name. Where it differs from the app's, no heartbeat is heard."""

    def read_url(self) -> RedisUrl:
        """Raises ControlUnavailable."""
        try:
            return redis_url(self.url_file.read_text())
        except OSError as error:
            sentence = f"the file with the broker's URL cannot be read: {error.strerror}"
            raise ControlUnavailable(sentence) from error
        except ValueError as error:
            raise ControlUnavailable(str(error)) from None


@dataclass(frozen=True, slots=True)
class Command:
    """One of Celery's remote control commands, by its name in celery/worker/control.py."""

    method: str
    nodes: frozenset[str]
    """Who is to carry it out; never everybody, so that another app's workers on the exchange do not."""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def tls_options(url: RedisUrl) -> dict[str, object]:
    """What the query of a `rediss://` URL says, in redis-py's words."""
    # kombu takes CERT_REQUIRED and required alike (kombu/utils/url.py).
    verify = url.options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    files = {name: url.options[name] for name in _TLS_FILES if name in url.options}
    return {"ssl_cert_reqs": verify, "ssl_check_hostname": verify == "required", **files}


_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
