"""The program without the engine: every resource it declares, with its inputs, in order.

It owns the way to run `infra.program` on Pulumi's own mocks and to give back what was declared as plain
data. `infra.manifests` renders it, the tests hold it to the program's invariants.

Each recording runs in a context of its own: Pulumi keeps its settings in context variables, so nothing of
one program is left for the next.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pulumi.runtime import mocks, rpc
from pulumi.runtime.stack import wait_for_rpcs

from infra.live.first_look import FirstLook
from infra.program import deploy
from infra.settings import PROJECT, Settings

DYNAMIC: Final = "pulumi-python:dynamic"


@dataclass(frozen=True, slots=True)
class Hidden:
    """A value that the program keeps secret."""

    value: Any

    def __repr__(self) -> str:
        return "Hidden(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One declared resource."""

    type: str
    name: str
    urn: str
    parent: str
    inputs: Mapping[str, Any]
    """Whole numbers are integers; what is secret is `Hidden`."""
    depends_on: frozenset[str]
    """URNs of the resources that are there before it."""
    provider: str
    ignore_changes: tuple[str, ...]
    retain_on_delete: bool
    delete_timeout: str
    """As `600s`; "" is the provider's own."""

    @property
    def is_kubernetes_object(self) -> bool:
        return self.type.startswith("kubernetes:")


class _Outputs(mocks.Mocks):
    """What providers would answer: the inputs, and the one output that the program reads."""

    def __init__(self, password: str) -> None:
        self._password = password

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        made = {"result": self._password} if args.typ.endswith("GeneratedPassword") else {}
        return f"{args.name}-id", {**args.inputs, **made}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise NotImplementedError(
            f"the program calls no function of a provider, and now it calls {args.token}"
        )


class _Monitor(mocks.MockMonitor):
    """Keeps each request, since `Mocks` is not told of dependencies and options."""

    def __init__(self, outputs: mocks.Mocks) -> None:
        super().__init__(outputs)
        self.recorded: list[Recorded] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  # gRPC's name
        # Pulumi calls this on a thread of a pool, and makes an event loop there that nobody closes.
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        if request.type != "pulumi:pulumi:Stack":
            self.recorded.append(
                Recorded(
                    type=request.type,
                    name=request.name,
                    urn=response.urn,
                    parent=request.parent,
                    inputs=_plain(rpc.deserialize_properties(request.object)),
                    depends_on=frozenset(request.dependencies),
                    provider=request.provider,
                    ignore_changes=tuple(request.ignoreChanges),
                    retain_on_delete=request.retainOnDelete,
                    delete_timeout=request.customTimeouts.delete,
                )
            )
        return response


def record(settings: Settings, seen: FirstLook | None = None, *, password: str = "") -> list[Recorded]:
    """What `deploy` declares, in an order in which it can be made."""
    return contextvars.Context().run(_record, settings, seen or FirstLook(), password)


def _record(settings: Settings, seen: FirstLook, password: str) -> list[Recorded]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # before set_mocks, whose root resource schedules its work there
    monitor = _Monitor(_Outputs(password))
    try:
        mocks.set_mocks(
            _Outputs(password), project=PROJECT, stack=settings.stack, preview=False, monitor=monitor
        )

        async def program() -> None:
            deploy(settings, seen)
            await wait_for_rpcs()

        loop.run_until_complete(program())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return monitor.recorded


def _plain(value: Any) -> Any:
    """Protobuf has no integers and no order of keys, and marks secrets by a key of its own."""
    if isinstance(value, Mapping):
        if value.get(rpc._special_sig_key) == rpc._special_secret_sig:  # noqa: SLF001
            return Hidden(_plain(value["value"]))
        return {key: _plain(entry) for key, entry in sorted(value.items())}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
