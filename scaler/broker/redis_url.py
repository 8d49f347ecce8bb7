"""The broker's URL as kombu reads it, without a client: parsing, and a repr that never shows a password.

`scaler.broker.redis_broker` makes a connection of it; the file that holds the URL is named in
`scaler.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """What a `redis://` or `rediss://` URL says."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: bool
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"Redis at {self.host}:{self.port}/{self.database}"

    def without_password(self, text: str) -> str:
        return text.replace(self.password, "***") if self.password else text


def redis_url(text: str) -> RedisUrl:
    """Parse the URL. Raises ValueError; its message repeats nothing of the URL but the scheme."""
    scheme = text.strip().partition("://")[0]
    if scheme not in ("redis", "rediss"):
        known = scheme if scheme.isalpha() and len(scheme) < 20 else "what was given"
        raise ValueError(f"the broker's URL must begin with redis:// or rediss://, not {known}")
    try:
        url = urlsplit(text.strip())
        port = url.port or 6379
        database = int(url.path.strip("/") or 0)
    except ValueError:
        message = "the broker's URL must have the form redis://:password@host:port/database"
        raise ValueError(message) from None
    return RedisUrl(
        host=url.hostname or "127.0.0.1",
        port=port,
        database=database,
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        tls=url.scheme == "rediss",
        options=dict(parse_qsl(url.query)),
    )
