"""Owns brokers that no stack runs: in a namespace of their own, with TLS and users, or behind Sentinels.

They stand for a managed Redis or RabbitMQ, with certificates of an authority that nobody trusts unasked. The
images are the stack's own servers'; what they are told is here.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from demo.cluster import Cluster
from infra.components import rabbitmq
from infra.components.server import SCRIPTS
from infra.manifests import configuration
from infra.settings import load
from scaler.contract import redis_rights
from tests.devcluster import pki

REDIS, RABBITMQ = "cache", "mq"
MASTER, REPLICA, SENTINELS = "redis-a", "redis-b", ("sentinel-1", "sentinel-2", "sentinel-3")
MASTER_NAME: Final = "mymaster"
USER, PASSWORD, SCALER_PASSWORD = "our-app", "app-password-of-16", "scaler-password-16"
PATIENCE: Final = 240
CREDENTIALS: Final = "/etc/celery-fleet/credentials"
SENTINEL: Final = """\
cat >/tmp/sentinel.conf <<END
port 26379
protected-mode no
sentinel resolve-hostnames yes
sentinel monitor {name} {master} 6379 2
sentinel down-after-milliseconds {name} 2000
sentinel failover-timeout {name} 10000
END
until redis-cli -h {master} ping | grep -q PONG; do sleep 1; done
exec redis-server /tmp/sentinel.conf --sentinel
"""


@dataclass(slots=True)
class Elsewhere:
    cluster: Cluster
    namespace: str
    images: Mapping[str, str]
    """By the stack's setting: redisImage, rabbitmqImage."""

    def host(self, name: str) -> str:
        return f"{name}.{self.namespace}.svc"

    def make(self) -> None:
        self.cluster.kubectl("create", "namespace", self.namespace)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            pki.certificate(place, "ca", "elsewhere-ca", None, pki.AUTHORITY, signer=None)
            names = ",".join(f"DNS:{self.host(name)}" for name in (REDIS, RABBITMQ))
            server = f"{pki.LEAF}subjectAltName={names}\nextendedKeyUsage=serverAuth\n"
            pki.certificate(place, "server", "elsewhere", None, server, signer="ca")
            texts = {path.name: path.read_text() for path in place.glob("*.crt")}
            texts["server.key"] = (place / "server.key").read_text()
        self._create({"kind": "Secret", "metadata": {"name": "tls"}, "stringData": texts})

    def authority(self) -> str:
        secret = json.loads(self._kubectl("get", "secret", "tls", "--output=json"))
        return base64.b64decode(secret["data"]["ca.crt"]).decode()

    def remove(self) -> None:
        self.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")

    def run_redis(self) -> str:
        """With TLS only, and users; the URL of the app's."""
        everything = ("~*", "&*", "+@all")
        command = [
            *("redis-server", "--port", "0", "--tls-port", "6379", "--save", "", "--dir", "/tmp"),  # noqa: S108
            *("--tls-cert-file", "/tls/server.crt", "--tls-key-file", "/tls/server.key"),
            *("--tls-ca-cert-file", "/tls/ca.crt", "--tls-auth-clients", "no"),
            *("--user", USER, "on", f">{PASSWORD}", *everything, "--user", "default", "off"),
            *("--user", "celery-scaler", "on", f">{SCALER_PASSWORD}", *redis_rights().split()),
        ]
        self._run(REDIS, "redisImage", command, [6379])
        return f"rediss://{USER}:{PASSWORD}@{self.host(REDIS)}:6379/0"

    def run_rabbitmq(self) -> str:
        """With TLS beside plain text, as the stack's own one otherwise; the URL of the app's."""
        declared = load(configuration("local", {"broker": "rabbitmq"}))
        program = rabbitmq.program(declared)
        tls = [
            "listeners.ssl.default = 5671",
            "ssl_options.cacertfile = /tls/ca.crt",
            "ssl_options.certfile = /tls/server.crt",
            "ssl_options.keyfile = /tls/server.key",
        ]
        files = {
            **program.running,
            "username": USER,
            "password": PASSWORD,
            "scaler-password": SCALER_PASSWORD,
            "start.sh": (SCRIPTS / "rabbitmq.sh").read_text(),
        }
        self._create({"kind": "Secret", "metadata": {"name": RABBITMQ}, "stringData": files})
        command = ["sh", f"{CREDENTIALS}/start.sh", *program.arguments, *tls]
        env = {**program.env, "CREDENTIALS": CREDENTIALS}
        more = {CREDENTIALS: {"secret": {"secretName": RABBITMQ}}, program.data: {"emptyDir": {}}}
        self._run(RABBITMQ, "rabbitmqImage", command, [5671, 5672, 15672], env=env, mounts=more)
        return f"amqps://{USER}:{PASSWORD}@{self.host(RABBITMQ)}:5671/{rabbitmq.VHOST}"

    def management_url(self) -> str:
        """Of the scaler's user, without TLS."""
        return f"http://celery-scaler:{SCALER_PASSWORD}@{self.host(RABBITMQ)}:15672/{rabbitmq.VHOST}"

    def run_sentinels(self) -> str:
        """Three Sentinels, one Redis and its replica; the Sentinels' URL."""
        plain = ["redis-server", "--save", "", "--protected-mode", "no", "--dir", "/tmp"]  # noqa: S108
        self._run(MASTER, "redisImage", plain, [6379])
        self._run(REPLICA, "redisImage", [*plain, "--replicaof", self.host(MASTER), "6379"], [6379])
        for name in SENTINELS:
            script = SENTINEL.format(name=MASTER_NAME, master=self.host(MASTER))
            self._run(name, "redisImage", ["sh", "-c", script], [26379])
        self.wait_for_replica()
        return ";".join(f"sentinel://{self.host(name)}:26379" for name in SENTINELS)

    def wait_for_replica(self) -> None:
        linked = "until redis-cli info replication | grep -q master_link_status:up; do sleep 1; done"
        self._kubectl("exec", REPLICA, "--", "timeout", "60", "sh", "-c", linked)

    def kill_master(self) -> None:
        """As a node that is lost: nothing is written any more, and nobody comes back by this name."""
        self._kubectl("delete", "pod", MASTER, "--grace-period=0", "--force")

    def master(self) -> str:
        """Its address, as the Sentinels have it."""
        ask = ("redis-cli", "-p", "26379", "sentinel", "get-master-addr-by-name", MASTER_NAME)
        return self._kubectl("exec", SENTINELS[0], "--", *ask).split()[0]

    def address(self, pod: str) -> str:
        return str(json.loads(self._kubectl("get", "pod", pod, "--output=json"))["status"]["podIP"])

    def _run(
        self,
        name: str,
        image: str,
        command: list[str],
        ports: list[int],
        *,
        env: Mapping[str, str] | None = None,
        mounts: Mapping[str, Any] | None = None,
    ) -> None:
        places = {"/tls": {"secret": {"secretName": "tls"}}, "/tmp": {"emptyDir": {}}, **(mounts or {})}  # noqa: S108
        volumes = {path: f"v{number}" for number, path in enumerate(places)}
        container = {
            "name": name,
            "image": self.images[image],
            "command": command,
            "env": [{"name": key, "value": value} for key, value in {**(env or {}), "HOME": "/tmp"}.items()],  # noqa: S108
            "volumeMounts": [{"name": volume, "mountPath": path} for path, volume in volumes.items()],
            "readinessProbe": {"tcpSocket": {"port": ports[0]}, "periodSeconds": 2},
        }
        labels = {"app": name}
        self._create(
            {
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels},
                "spec": {
                    "containers": [container],
                    "volumes": [{"name": volumes[path], **source} for path, source in places.items()],
                    "securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
                    "terminationGracePeriodSeconds": 1,
                },
            }
        )
        service = {
            "selector": labels,
            "ports": [{"name": f"p{port}", "port": port} for port in ports],
            "clusterIP": "None",
            # The Sentinels look each other up before they are ready.
            "publishNotReadyAddresses": True,
        }
        self._create({"kind": "Service", "metadata": {"name": name}, "spec": service})
        ready = ("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE}s")
        self._kubectl(*ready, seconds=PATIENCE + 10)

    def _create(self, manifest: dict[str, Any]) -> None:
        self._kubectl("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", **manifest}))

    def _kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 90) -> str:
        here = f"--namespace={self.namespace}"
        return self.cluster.kubectl(here, *arguments, stdin=stdin, timeout_seconds=seconds)
