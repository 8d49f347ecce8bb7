"""A real RabbitMQ 4 on loopback, with its management API and TLS, and a vhost for each test.

Started once a session, in 6 s. Non-exclusive queues that do not last are forbidden, as RabbitMQ 4.3 does by
default. `RabbitServer.restart` is for the tests of an outage.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scaler.contract import rabbitmq_permissions
from tests import trixie
from tests.devcluster import pki

START_SECONDS = 60
USER, SCALER = "celery", "celery-scaler"
PASSWORD, SCALER_PASSWORD = "celery-pw", "scaler-pw"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}

SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
listeners.ssl.1 = 127.0.0.1:{amqps}
ssl_options.cacertfile = /data/tls/ca.crt
ssl_options.certfile = /data/tls/server.crt
ssl_options.keyfile = /data/tls/server.key
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
management.ssl.ip = 127.0.0.1
management.ssl.port = {https}
management.ssl.certfile = /data/tls/server.crt
management.ssl.keyfile = /data/tls/server.key
default_user = admin
default_pass = admin
default_user_tags.administrator = true
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
deprecated_features.permit.transient_nonexcl_queues = false
"""


@dataclass(slots=True)
class RabbitServer:
    folder: Path
    ports: Mapping[str, int]
    """By name: amqp, amqps, http, https, dist (Erlang's own), epmd."""
    server: trixie.Server = field(init=False)

    def __post_init__(self) -> None:
        data = self.folder / "data"
        (data / "tls").mkdir(parents=True)
        pki.certificate(data / "tls", "ca", "test-ca", None, pki.AUTHORITY, signer=None)
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
        pki.certificate(data / "tls", "server", "localhost", None, f"{pki.LEAF}{names}", signer="ca")
        (data / "rabbitmq.conf").write_text(SETTINGS.format(**self.ports))
        (data / "enabled_plugins").write_text("[rabbitmq_management].\n")
        self.server = trixie.Server(data, self.folder / "rabbitmq.log")

    @property
    def ca(self) -> Path:
        return self.folder / "data/tls/ca.crt"

    def start(self) -> None:
        self.server.start(
            ["/usr/lib/rabbitmq/bin/rabbitmq-server", "-noinput"],
            {
                "LANG": "C.UTF-8",
                "RUNNING_UNDER_SYSTEMD": "1",  # signals reach the Erlang machine, not a shell around it
                "RABBITMQ_NODENAME": f"test-{self.ports['amqp']}@localhost",
                "RABBITMQ_CONFIG_FILE": "/data/rabbitmq.conf",
                "RABBITMQ_ENABLED_PLUGINS_FILE": "/data/enabled_plugins",
                "RABBITMQ_MNESIA_BASE": "/data/mnesia",
                "RABBITMQ_LOG_BASE": "/data/log",
                "RABBITMQ_DIST_PORT": str(self.ports["dist"]),
                "ERL_EPMD_PORT": str(self.ports["epmd"]),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
            },
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.server.runs or time.monotonic() > deadline:
                raise AssertionError(f"RabbitMQ did not start:\n{self.log}")
            time.sleep(0.1)

    def stop(self) -> None:
        self.server.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def log(self) -> str:
        """Its last lines, for a test that fails."""
        return "\n".join(self.server.log.read_text(errors="replace").splitlines()[-60:])

    def api(self, method: str, path: str, body: object = None, *, check: bool = True) -> Any:
        """As the administrator; what it answers, None where that is nothing."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=10)) as connection:
            login = base64.b64encode(b"admin:admin").decode()
            headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
            connection.request(
                method, f"/api/{path}", json.dumps(body) if body is not None else None, headers
            )
            response = connection.getresponse()
            said = response.read()
            if check:
                assert response.status < 300, (method, path, response.status, said)
            return json.loads(said) if said else None

    def vhost(self) -> Vhost:
        """One of a test's own, with the users that a stack has."""
        vhost = Vhost(self, f"test-{uuid.uuid4().hex[:8]}")
        self.api("PUT", f"vhosts/{vhost.name}", {})
        self.api("PUT", f"users/{USER}", {"password": PASSWORD, "tags": ""})
        self.api("PUT", f"users/{SCALER}", {"password": SCALER_PASSWORD, "tags": "monitoring"})
        vhost.allow(USER, EVERYTHING)
        vhost.allow(SCALER, rabbitmq_permissions())
        return vhost

    def _answers(self) -> bool:
        try:
            return bool(self.api("GET", "health/checks/virtual-hosts", check=False).get("status") == "ok")
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return False


@dataclass(slots=True)
class Vhost:
    server: RabbitServer
    name: str

    @property
    def url(self) -> str:
        """What Celery uses."""
        return self.url_of(USER, PASSWORD)

    @property
    def scaler_url(self) -> str:
        return self.url_of(SCALER, SCALER_PASSWORD)

    def url_of(self, user: str, password: str) -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.server.ports['amqp']}/{self.name}"

    def encrypted(self, scheme: str = "amqps", port: str = "amqps", host: str = "localhost") -> str:
        """The scaler's URL at another port, by a name that the certificate has."""
        return f"{scheme}://{SCALER}:{SCALER_PASSWORD}@{host}:{self.server.ports[port]}/{self.name}"

    @property
    def management_url(self) -> str:
        return f"http://{SCALER}:{SCALER_PASSWORD}@127.0.0.1:{self.server.ports['http']}/{self.name}"

    def allow(self, user: str, permissions: Mapping[str, str]) -> None:
        self.server.api("PUT", f"permissions/{self.name}/{user}", permissions)

    def declare(self, queue: str, kind: str = "classic") -> None:
        arguments = {"durable": True, "arguments": {"x-queue-type": kind}}
        self.server.api("PUT", f"queues/{self.name}/{quote(queue, safe='')}", arguments)

    def queues(self) -> set[str]:
        return {row["name"] for row in self.server.api("GET", f"queues/{self.name}?disable_stats=true")}

    def row(self, queue: str) -> dict[str, Any]:
        """A queue in the list of figures."""
        rows = self.server.api("GET", f"queues/{self.name}?disable_stats=true&enable_queue_totals=true")
        return next(dict(row) for row in rows if row["name"] == queue)

    def remove(self) -> None:
        self.server.api("DELETE", f"vhosts/{self.name}", check=False)
