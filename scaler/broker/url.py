"""Where the broker is, as kombu reads its URL, without a client: parsing, and a repr that shows no password.

It owns the family of URLs that the scaler understands, the file that holds one, and what their `ssl_*`
parameters ask for. It refuses to repeat anything of a URL that it cannot read but the scheme.

`scaler.broker.redis_connection`, `scaler.broker.amqp_channel`, `scaler.broker.rabbitmq_management` and
`scaler.workers.mailbox` make connections of what is here; the files are named in `scaler.settings`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from scaler.contract import Ready

_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


class UrlUnusable(Exception):  # noqa: N818  # a fact about a file
    """There is no URL to go by: a reason of Ready, and a sentence without anything secret."""

    def __init__(self, reason: Ready, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a server's certificate is checked, and which one of ours is shown."""

    ca_file: str | None = None
    """Certificates of those who may have signed it; None: whoever the system trusts."""
    certificate: str | None = None
    key: str | None = None
    verify: str = "required"
    """`required`, `optional` or `none`."""
    check_hostname: bool = True

    def redis_options(self) -> dict[str, Any]:
        """In the words of redis-py."""
        return {
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
            "ssl_cert_reqs": self.verify,
            "ssl_check_hostname": self.check_hostname,
        }

    def amqp_options(self, host: str) -> dict[str, Any]:
        """In those of py-amqp, which checks the name where it is told one."""
        return {
            "ca_certs": self.ca_file,
            "certfile": self.certificate,
            "keyfile": self.key,
            "cert_reqs": _VERIFY[self.verify],
            "server_hostname": host if self.check_hostname else None,
        }

    def context(self) -> ssl.SSLContext:
        """For whoever takes Python's own. Raises OSError where a file is not there."""
        made = ssl.create_default_context(cafile=self.ca_file)
        made.check_hostname = self.check_hostname
        made.verify_mode = _VERIFY[self.verify]
        if self.certificate:
            made.load_cert_chain(self.certificate, self.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def without_password(self, text: str) -> str:
        return text.replace(self.password, "***") if self.password else text


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl(Login):
    """What a `redis://` or `rediss://` URL says."""

    host: str
    port: int
    database: int = 0
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"Redis at {self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelUrl(Login):
    """What `sentinel://` URLs say, joined by semicolons; the login is for Redis, not for the Sentinels."""

    sentinels: tuple[tuple[str, int], ...]
    database: int = 0
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"Redis by the Sentinels {', '.join(f'{host}:{port}' for host, port in self.sentinels)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpUrl(Login):
    """What an `amqp://` or `amqps://` URL says."""

    host: str
    port: int
    vhost: str = "/"
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"RabbitMQ at {self.host}:{self.port} (vhost {self.vhost})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementUrl(Login):
    """Where RabbitMQ's management API is; an `http://` or `https://` URL whose path is the vhost."""

    host: str
    port: int
    vhost: str | None = None
    """None: that of the broker's URL."""
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"RabbitMQ's management API at {self.host}:{self.port}"


BrokerUrl = RedisUrl | SentinelUrl | AmqpUrl


@dataclass(frozen=True, slots=True)
class UrlFile:
    """A mounted Secret, so it is read again for every use: it changes without a restart."""

    path: Path
    ca_file: Path | None = None
    """Certificates to trust where the URL names none."""

    def broker(self) -> BrokerUrl:
        """Raises UrlUnusable."""
        try:
            return broker_url(self.path.read_text(), self.ca_file)
        except OSError as error:
            sentence = f"the file with the broker's URL cannot be read: {error.strerror}"
            raise UrlUnusable(Ready.BROKER_UNREACHABLE, sentence) from error
        except ValueError as error:
            raise UrlUnusable(Ready.BROKER_URL_INVALID, str(error)) from None

    def management(self) -> ManagementUrl | None:
        """None where there is no such file, as where a Secret has no such key. Raises UrlUnusable."""
        try:
            return management_url(self.path.read_text(), self.ca_file)
        except FileNotFoundError:
            return None
        except OSError as error:
            sentence = f"the file with the management API's URL cannot be read: {error.strerror}"
            raise UrlUnusable(Ready.MANAGEMENT_UNAVAILABLE, sentence) from error
        except ValueError as error:
            raise UrlUnusable(Ready.MANAGEMENT_UNAVAILABLE, str(error)) from None


_SCHEMES: Final[Mapping[str, str]] = {
    "redis": "redis://user:password@host:port/database",
    "rediss": "rediss://user:password@host:port/database",
    "sentinel": "sentinel://:password@host:port/database;sentinel://host:port",
    "amqp": "amqp://user:password@host:port/vhost",
    "pyamqp": "pyamqp://user:password@host:port/vhost",
    "amqps": "amqps://user:password@host:port/vhost",
}


def broker_url(text: str, ca_file: Path | None = None) -> BrokerUrl:
    """Parse the URL. Raises ValueError; its message repeats nothing of the URL but the scheme."""
    text = text.strip()
    scheme = _scheme(text)
    if scheme not in _SCHEMES:
        known = scheme if scheme.isalnum() and len(scheme) < 20 else "what was given"
        raise ValueError(
            "the broker's URL must begin with redis://, rediss://, sentinel://, amqp:// or amqps://, "
            f"not {known}"
        )
    try:
        if scheme == "sentinel":
            return _sentinel(text, ca_file)
        url = urlsplit(text)
        if scheme in ("redis", "rediss"):
            return _redis(url, ca_file)
        return _amqp(url, ca_file)
    except ValueError:
        raise ValueError(f"the broker's URL must have the form {_SCHEMES[scheme]}") from None


def management_url(text: str, ca_file: Path | None = None) -> ManagementUrl:
    """Parse the URL. Raises ValueError, whose message repeats nothing of it."""
    form = "the management API's URL must have the form http://user:password@host:port/vhost"
    try:
        url = urlsplit(text.strip())
        port = url.port
    except ValueError:
        raise ValueError(form) from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(form)
    tls = _tls(url, ca_file) if url.scheme == "https" else None
    vhost = unquote(url.path.removeprefix("/")) or None
    return ManagementUrl(host=url.hostname, port=port or 15672, vhost=vhost, tls=tls, **_login(url))


def _redis(url: SplitResult, ca_file: Path | None) -> RedisUrl:
    return RedisUrl(
        host=url.hostname or "127.0.0.1",
        port=url.port or 6379,
        database=int(url.path.strip("/") or 0),
        tls=_tls(url, ca_file) if url.scheme == "rediss" else None,
        **_login(url),
    )


def _sentinel(text: str, ca_file: Path | None) -> SentinelUrl:
    urls = [urlsplit(part.strip()) for part in text.split(";") if part.strip()]
    if any(url.scheme != "sentinel" for url in urls):
        raise ValueError(text)
    first = urls[0]
    # kombu knows no `sentinels://`: that there is TLS behind them shows by what is said of it.
    encrypted = any(name.startswith("ssl") for name, _ in parse_qsl(first.query))
    return SentinelUrl(
        sentinels=tuple((url.hostname or "127.0.0.1", url.port or 26379) for url in urls),
        database=int(first.path.strip("/") or 0),
        tls=_tls(first, ca_file) if encrypted else None,
        **_login(first),
    )


def _amqp(url: SplitResult, ca_file: Path | None) -> AmqpUrl:
    if ";" in url.netloc + url.path:
        raise ValueError("kombu's list of brokers")
    encrypted = url.scheme == "amqps"
    return AmqpUrl(
        host=url.hostname or "127.0.0.1",
        port=url.port or (5671 if encrypted else 5672),
        vhost=unquote(url.path.removeprefix("/")) or "/",
        tls=_tls(url, ca_file) if encrypted else None,
        **{"username": "guest", "password": "guest"} | _login(url),
    )


def _scheme(text: str) -> str:
    scheme, found, _ = text.partition("://")
    return scheme if found else ""


def _login(url: SplitResult) -> dict[str, str]:
    found = {"username": url.username, "password": url.password}
    return {name: unquote(value) for name, value in found.items() if value}


def _tls(url: SplitResult, ca_file: Path | None) -> Tls:
    # kombu takes `ssl_ca_certs` for Redis and gives all of them to py-amqp, whose name is `ca_certs`.
    said = {name.removeprefix("ssl_"): value for name, value in parse_qsl(url.query)}
    # kombu takes CERT_REQUIRED and required alike (kombu/utils/url.py).
    verify = said.get("cert_reqs", "required").lower().removeprefix("cert_")
    if verify not in ("required", "optional", "none"):
        raise ValueError(verify)
    hostname = said.get("check_hostname", "true").lower() != "false"
    return Tls(
        ca_file=said.get("ca_certs") or (str(ca_file) if ca_file else None),
        certificate=said.get("certfile"),
        key=said.get("keyfile"),
        verify=verify,
        check_hostname=verify == "required" and hostname,
    )
