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
