"""Pulumi's real dynamic-provider server, driven over gRPC as the engine drives it.

It owns the wire: properties as protobuf structs (so numbers are floats), `__provider` among them, check
before diff before the deed. What it leaves out is the engine's own work: plans, state and dependencies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

ROOT = Path(__file__).parents[2]
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine sends at preview for a value that a resource has yet to produce."""


class ProviderError(Exception):
    """What the engine would print under `error:`."""


@dataclass(slots=True)
class Resource:
    """One resource as a stack's state records it."""

    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass(slots=True)
class ProviderServer:
    """`python -m pulumi.dynamic`, with stack config `config`; a context manager."""

    provider: ResourceProvider
    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    pickle: str = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)
    _channel: grpc.Channel = field(init=False)
    _stub: Any = field(init=False)

    def __enter__(self) -> Self:
        self.pickle = serialize_provider(self.provider)
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "pulumi.dynamic"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PULUMI_PROJECT": "celery-fleet", **self.environment},
        )
        assert self._process.stdout is not None
        self._channel = grpc.insecure_channel(f"127.0.0.1:{int(self._process.stdout.readline())}")
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        self._call("Configure", provider_pb2.ConfigureRequest(args=_struct(self.config)))
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> str:
        """Ends it and returns all that it wrote to standard output and error."""
        self._channel.close()
        self._process.terminate()
        said, _ = self._process.communicate(timeout=10)
        return said.decode()

    def kill(self) -> None:
        """As the kernel or a person does, in the middle of whatever it is at."""
        self._process.kill()

    def check(
        self, news: Mapping[str, Any], olds: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Returns the inputs to record and the failures as (property, reason)."""
        request = provider_pb2.CheckRequest(olds=_struct(olds or {}), news=self._properties(news))
        answer = self._call("Check", request)
        failures = [(failure.property, failure.reason) for failure in answer.failures]
        return _plain(answer.inputs), failures

    def diff(self, resource: Resource, news: Mapping[str, Any]) -> tuple[bool, list[str]]:
        """Returns whether there is a change, and what would force a replacement."""
        request = provider_pb2.DiffRequest(
            id=resource.id, olds=_struct(resource.outputs), news=self._properties(news)
        )
        answer = self._call("Diff", request)
        assert answer.changes != provider_pb2.DiffResponse.DIFF_UNKNOWN
        return answer.changes == provider_pb2.DiffResponse.DIFF_SOME, list(answer.replaces)

    def create(self, inputs: Mapping[str, Any]) -> Resource:
        request = provider_pb2.CreateRequest(properties=self._properties(inputs))
        answer = self._call("Create", request)
        return Resource(answer.id, self._recorded(inputs), _plain(answer.properties))

    def update(self, resource: Resource, news: Mapping[str, Any]) -> Resource:
        request = provider_pb2.UpdateRequest(
            id=resource.id, olds=_struct(resource.outputs), news=self._properties(news)
        )
        answer = self._call("Update", request)
        return Resource(resource.id, self._recorded(news), _plain(answer.properties))

    def read(self, resource: Resource) -> Resource:
        request = provider_pb2.ReadRequest(
            id=resource.id, properties=self._properties(resource.outputs), inputs=_struct(resource.inputs)
        )
        answer = self._call("Read", request)
        return Resource(answer.id, resource.inputs, _plain(answer.properties))

    def delete(self, resource: Resource) -> None:
        request = provider_pb2.DeleteRequest(id=resource.id, properties=self._properties(resource.outputs))
        self._call("Delete", request)

    def up(self, declared: Mapping[str, Any], resource: Resource | None = None) -> Resource:
        """What `pulumi up` does with one resource; a failed check raises as the engine prints it."""
        inputs, failures = self.check(declared, resource.inputs if resource else None)
        if failures:
            raise ProviderError("\n".join(reason for _, reason in failures))
        if resource is None:
            return self.create(inputs)
        changes, replaces = self.diff(resource, inputs)
        assert not replaces
        return self.update(resource, inputs) if changes else resource

    def _recorded(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {**inputs, "__provider": self.pickle}

    def _properties(self, values: Mapping[str, Any]) -> struct_pb2.Struct:
        return _struct(self._recorded(values))

    def _call(self, method: str, request: object) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=600)
        except grpc.RpcError as error:
            raise ProviderError(error.details()) from None


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def _plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    return dict(json_format.MessageToDict(struct))
