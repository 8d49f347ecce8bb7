"""An API server that answers what a test put there, over HTTP, and notes every write.

It owns no rule of Kubernetes beyond 404 and the merge of `/scale`: what a real one does is tested against a
real one. `python -m scaler drain` and the lifecycle resource meet it as they meet any other.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml

from scaler import contract

NAMESPACE = "shop"
UID = "the-cluster"
_CELERIES = f"/apis/{contract.API_VERSION}/namespaces/{NAMESPACE}/{contract.PLURAL}"
_DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{contract.SCALER_NAME}"

WATCHING = {
    "type": "Ready",
    "status": "True",
    "reason": contract.Ready.WATCHING,
    "message": "all is well",
    "observedGeneration": 1,
}
ZERO = {"queued": 0, "unacked": 0, "active": 0, "notDue": 0}


@dataclass(slots=True)
class RecordedCluster:
    """A context manager; the scaler renews its Lease, if it has one, with each look as long as `beating`."""

    kubeconfig: Path
    pools: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name to status."""
    specs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name to spec, of those that have one."""
    replicas: dict[str, int] = field(default_factory=dict)
    """Deployments."""
    defined: bool = True
    namespaced: bool = True
    beating: bool = True
    leased: bool = True
    autoscalers: dict[str, str] = field(default_factory=dict)
    """HorizontalPodAutoscalers, and the Deployment that each scales."""
    forbidden: tuple[str, ...] = ()
    """Endings of paths that are answered with 403."""
    writes: list[tuple[str, str, Any]] = field(default_factory=list)
    looks: int = 0
    _server: ThreadingHTTPServer = field(init=False)

    def __enter__(self) -> Self:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self._answer("POST")

            def do_PATCH(self) -> None:
                self._answer("PATCH")

            def log_message(self, *_arguments: object) -> None:
                pass

            def _answer(self, method: str) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or "null")
                code, document = cluster.answer(method, self.path.partition("?")[0], body)
                text = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        server = f"http://127.0.0.1:{self._server.server_port}"
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t0ken-marker"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def report(self, name: str, **status: Any) -> None:
        """Play the scaler."""
        self.pools[name] = {"conditions": [WATCHING], **ZERO, **status}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Mapping[str, Any]]:
        if path.endswith(self.forbidden) and self.forbidden:
            return _status(403, f"forbidden: {path}")
        if method == "POST" and path.endswith("/selfsubjectaccessreviews"):
            return 201, {**body, "metadata": {}, "status": {"allowed": True}}
        if method != "GET":
            self.writes.append((method, path, body))
        found = self._found(path, body)
        return _status(404, f"there is no {path}") if found is None else (200, found)

    def _found(self, path: str, body: Any) -> Mapping[str, Any] | None:
        if path == "/api/v1/namespaces/kube-system":
            return {"metadata": {"name": "kube-system", "uid": UID}}
        if path == f"/api/v1/namespaces/{NAMESPACE}" and self.namespaced:
            return {"metadata": {"name": NAMESPACE, "uid": "n"}}
        if path == _CELERIES and self.defined:
            self.looks += 1
            pools = [_celery(name, self.specs.get(name, {}), status) for name, status in self.pools.items()]
            return _list("Celery", pools)
        if path == _DEPLOYMENTS:
            return _list("Deployment", [self._deployment(name) for name in self.replicas])
        if path == _LEASE and self.leased:
            beat = self.looks if self.beating else 0
            spec = {
                "holderIdentity": "scaler-0",
                "renewTime": f"2026-01-01T00:{beat // 60:02}:{beat % 60:02}Z",
            }
            return {"metadata": {"name": contract.SCALER_NAME, "resourceVersion": "1"}, "spec": spec}
        if path.endswith(("/horizontalpodautoscalers", "/replicasets", "/pods")):
            return _list("Any", self._hpas() if path.endswith("autoscalers") else [])
        name, _, part = path.removeprefix(f"{_DEPLOYMENTS}/").partition("/")
        if name not in self.replicas:
            return None
        if part == "scale":
            if body:
                self.replicas[name] = body["spec"]["replicas"]
            return {
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {"name": name},
                "spec": {"replicas": self.replicas[name]} if self.replicas[name] else {},
            }
        return self._deployment(name)

    def _hpas(self) -> list[dict[str, Any]]:
        targets = {
            name: {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}
            for name, deployment in self.autoscalers.items()
        }
        return [
            {"metadata": {"name": name}, "spec": {"scaleTargetRef": target, "maxReplicas": 5}}
            for name, target in targets.items()
        ]

    def _deployment(self, name: str) -> dict[str, Any]:
        variable = {"name": contract.Env.POLL_SECONDS, "value": "0.5"}
        pod = {"containers": [{"name": "scaler", "env": [variable]}]}
        return {
            "metadata": {"name": name},
            "spec": {
                "replicas": self.replicas[name],
                "selector": {},
                "template": {"spec": pod},
            },
            "status": dict.fromkeys(
                ("replicas", "updatedReplicas", "availableReplicas"), self.replicas[name]
            ),
        }


def _celery(name: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec, "status": status}


def _list(kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "message": message, "code": code, "metadata": {}}
