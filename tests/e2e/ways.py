"""Owns the two ways in which a stack comes and goes here: rendered manifests, and the real `pulumi`.

Without the engine the lifecycle resource is asked through Pulumi's own provider server, and what would go
after it goes here, workers before their broker. Both ways keep the namespace, so that the ledger in it
outlives the stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from demo.cluster import Cluster
from demo.commands import ProgramFailed
from demo.engine import Engine
from infra.lifecycle import LifecycleProvider
from infra.manifests import configuration
from infra.recording import DYNAMIC, record
from infra.settings import PROJECT, load
from scaler.contract import worker_deployment_name
from tests.e2e.outside import mount
from tests.e2e.stack import WORKERS, Stack
from tests.infra.provider_server import ProviderError, ProviderServer, Resource

REMOVE_SECONDS: Final = 200
LIFECYCLE: Final = f"{DYNAMIC}/celeryfleet:FleetLifecycle"


class Way(Protocol):
    @property
    def stack(self) -> Stack: ...
    def up(self) -> None:
        """Deploy the stack, with the ledger for its workers."""

    def destroy(self, **settings: object) -> str:
        """With these settings; why nothing was removed, or ""."""


@dataclass(frozen=True, slots=True)
class Rendered:
    stack: Stack

    def up(self) -> None:
        self.stack.apply()

    def refusals(self, **settings: object) -> list[str]:
        """Why a preview refuses these settings, beside what is deployed now."""
        with self._server() as server:
            _, failures = server.check(self._state(**settings), self._state())
        return [reason for _, reason in failures]

    def remove_pool(self, name: str, **settings: object) -> None:
        """Deploy what these settings leave of the stack, and then remove the pool as the engine would."""
        self.stack.apply(**settings)
        self.stack.kubectl("delete", "celery", name)
        self._remove_workers(worker_deployment_name(name))

    def destroy(self, **settings: object) -> str:
        config = {f"{PROJECT}:{key}": str(value) for key, value in settings.items()}
        # A stack that has no file, or the provider would read its settings there.
        state = {**self._state(), "stack": "rendered"}
        with self._server(config) as server:
            try:
                server.delete(Resource("id", state, json.loads(json.dumps(state), parse_int=float)))
            except ProviderError as error:
                return str(error).partition("LifecycleFailed: ")[2] or str(error)
        self._remove()
        return ""

    def _server(self, config: Mapping[str, str] = {}) -> ProviderServer:
        environment = {"KUBECONFIG": str(self.stack.cluster.kubeconfig)}
        return ProviderServer(LifecycleProvider(), config=config, environment=environment)

    def _state(self, **settings: object) -> dict[str, Any]:
        texts = {key: str(value) for key, value in settings.items()}
        declared = load(configuration("local", {**self.stack.settings, **texts}))
        (lifecycle,) = (
            found
            for found in record(declared)
            if found.type.startswith(DYNAMIC) and found.name == "lifecycle"
        )
        state = {key: value for key, value in lifecycle.inputs.items() if key != "__provider"}
        return {**state, "context": self.stack.cluster.context}

    def _remove(self) -> None:
        self._remove_workers(WORKERS)
        self.stack.kubectl("delete", "celery,deployment,service", "--all", seconds=REMOVE_SECONDS)

    def _remove_workers(self, deployment: str) -> None:
        how = ("--cascade=foreground", f"--timeout={REMOVE_SECONDS}s")
        self.stack.kubectl("delete", "deployment", deployment, *how, seconds=REMOVE_SECONDS + 10)


@dataclass(frozen=True, slots=True)
class Pulumi:
    stack: Stack
    engine: Engine

    def up(self) -> None:
        configure(self.engine, self.stack.cluster, self.stack.settings)
        self.engine.act("up", "--yes", "--skip-preview")
        self._give_ledger()

    def destroy(self, **settings: object) -> str:
        for key, value in settings.items():
            self.engine.set(key, str(value))
        try:
            self.engine.act("destroy", "--yes", "--skip-preview", "--run-program")
        except ProgramFailed as failure:
            return failure.output
        return ""

    def _give_ledger(self) -> None:
        """Pulumi's program has no setting for it, so the workers' Deployment is changed as a person would."""
        template = self.stack.get("deployment", WORKERS)["spec"]["template"]
        mount(template)
        patch = json.dumps({"spec": {"template": template}})
        self.stack.kubectl("patch", "deployment", WORKERS, "--type=merge", f"--patch={patch}")
        self.stack.kubectl("rollout", "status", f"deployment/{WORKERS}", "--timeout=180s", seconds=190)


def configure(engine: Engine, cluster: Cluster, settings: Mapping[str, str]) -> None:
    """Make the stack, with these settings one by one: structures as a person sets them."""
    engine.prepare(cluster.settings)
    for key, value in settings.items():
        for path, leaf in leaves(key, json.loads(value) if value.startswith("{") else value):
            engine.set(path, leaf)


def leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """What `pulumi config set --path` takes of a structure."""
    if not isinstance(value, dict):
        yield path, str(value)
        return
    for key, inner in value.items():
        yield from leaves(f"{path}.{key}", inner)
