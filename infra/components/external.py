"""A broker that the stack does not run: where its URL comes from, and whom its certificate is checked by.

It owns the way from `brokerUrl` and `brokerCa` to what kombu takes. Redis' options stand in the URL; those of
AMQP kombu passes on from the URL under names that py-amqp does not know, so workers get them as configuration
and the stack's own producers by OpenSSL's variable (measured with kombu 5.7, amqp 5.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from infra.components.pod_baseline import Manifest
from infra.settings import Settings

CA_FOLDER: Final = "/etc/celery-fleet/broker-ca"
CA_FILE: Final = f"{CA_FOLDER}/ca.crt"
CA_KEY: Final = "ca.crt"
PORTS: Final = {
    "redis": 6379,
    "rediss": 6379,
    "sentinel": 26379,
    "amqp": 5672,
    "amqps": 5671,
    "postgresql": 5432,
    "mysql": 3306,
}
_VERIFY: Final = f"ssl_cert_reqs=required&ssl_ca_certs={CA_FILE}"
_CERT_REQUIRED: Final = 2
"""ssl.CERT_REQUIRED, as JSON can say it."""


def with_authorities(given: str, settings: Settings) -> str:
    """The URL, with what its server is checked by where it does not name that itself."""
    if not settings.broker_ca or not given.startswith("rediss://") or "ssl_ca_certs" in given:
        return given
    parts = urlsplit(given)
    kept = [pair for pair in parts.query.split("&") if pair and not pair.startswith("ssl_cert_reqs=")]
    return urlunsplit(parts._replace(query="&".join([*kept, _VERIFY])))


def without_credentials(given: str) -> str:
    """Where the URL leads, with nothing that opens it."""
    places = [urlsplit(part) for part in given.split(";")]
    return ";".join(f"{one.scheme}://{one.netloc.rpartition('@')[2]}{one.path}" for one in places)


def ports_of(given: str) -> list[int]:
    """That the URL leads to; a Sentinel leads on to its Redis. None where it does not say."""
    found = set()
    for part in given.split(";") if given else ():
        parts = urlsplit(part.partition("+")[2] if part.startswith(("db+", "database+")) else part)
        scheme = parts.scheme.partition("+")[0]
        if not parts.port and scheme not in PORTS:
            return []
        found |= {parts.port or PORTS[scheme], *([PORTS["redis"]] if scheme == "sentinel" else [])}
    return sorted(found)


def worker_configuration(settings: Settings, scheme: str) -> Iterator[str]:
    if settings.broker_ca and scheme == "amqps":
        # With no name kombu takes the URL's, and only with a name is the certificate's compared.
        options = {"ca_certs": CA_FILE, "cert_reqs": _CERT_REQUIRED, "server_hostname": None}
        yield f"broker.use_ssl=(dict){json.dumps(options, sort_keys=True)}"


def environment(settings: Settings, scheme: str) -> list[Manifest]:
    """Of the stack's own producers, which speak to nobody else over TLS."""
    trusted = settings.broker_ca and scheme == "amqps"
    return [{"name": "SSL_CERT_FILE", "value": CA_FILE}] if trusted else []


def mounts(settings: Settings) -> dict[str, Manifest]:
    if not settings.broker_ca:
        return {}
    kind, name, *key = settings.broker_ca.split("/")
    items = [{"key": key[0] if key else CA_KEY, "path": CA_KEY}]
    source = (
        {"secret": {"secretName": name, "items": items}}
        if kind == "secret"
        else {"configMap": {"name": name, "items": items}}
    )
    return {CA_FOLDER: source}
