"""Where the page lives and what it links to, as the environment says; checked once, at the start.

It owns what a prefix and a link may be. A link with a password in it is refused: the page asks nobody who
they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    prefix: str = ""
    """As `/fleet`, where a reverse proxy passes that on; "" where it is taken off, or there is none."""
    stack_name: str = ""
    """The Pulumi stack that this is; "" where the environment does not say it."""
    stack: str | None = None
    """Where people see the stack, as `https://app.pulumi.com/org/celery-fleet/prod`."""
    flower: str | None = None
    grafana: str | None = None


def prefix_of(text: str) -> str:
    """`/fleet/` and `fleet` are `/fleet`. Raises ValueError."""
    path = text.strip().strip("/")
    if path and not re.fullmatch(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError(f"must be a path such as /fleet, not {text!r}")
    return f"/{path}" if path else ""


def link_of(text: str) -> str | None:
    """An http(s) address without credentials; None for an empty text. Raises ValueError."""
    if not text.strip():
        return None
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        raise ValueError("must be an address that begins with http:// or https://") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password: the page would show it")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must be an address that begins with http:// or https://")
    return text.strip()
