"""The generated password, through the server that the engine would use."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import wait_for_rpcs

from infra.password import GeneratedPassword, PasswordProvider
from tests.infra.provider_server import ProviderError, ProviderServer, Resource

DECLARED = {"length": 32, "result": None}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(PasswordProvider()) as server:
        yield server


def test_the_state_holds_the_providers_name_and_no_code(server: ProviderServer) -> None:
    pickle = base64.b64decode(server.pickle)

    assert b"infra.password" in pickle
    assert b"PasswordProvider" in pickle
    assert len(pickle) < 100


def test_each_create_makes_its_own_password_of_the_length_asked_for(server: ProviderServer) -> None:
    made = [server.up({"length": length, "result": None}) for length in (32, 32, 20)]

    assert [len(resource.outputs["result"]) for resource in made] == [32, 32, 20]
    assert len({resource.outputs["result"] for resource in made}) == 3
    assert all(resource.outputs["result"].isalnum() for resource in made)


def test_the_second_up_is_unchanged(server: ProviderServer) -> None:
    resource = server.up(DECLARED)

    inputs, failures = server.check(DECLARED, resource.inputs)

    assert failures == []
    assert server.diff(resource, inputs) == (False, [])


def test_neither_an_edited_length_nor_an_update_nor_a_refresh_makes_a_new_one(server: ProviderServer) -> None:
    """A running Redis keeps the password that it was started with."""
    resource = server.up(DECLARED)
    longer = {**DECLARED, "length": 64}

    assert server.diff(resource, longer) == (False, [])
    assert server.update(resource, longer).outputs["result"] == resource.outputs["result"]
    assert server.read(resource).outputs["result"] == resource.outputs["result"]


@pytest.mark.parametrize("length", [0, 15, 129, 20.5, "32", None])
def test_a_length_that_makes_no_secret_is_refused(server: ProviderServer, length: object) -> None:
    _, failures = server.check({"length": length, "result": None})

    assert failures == [("length", f"length must be a whole number from 16 to 128, not {_wired(length)!r}")]


def test_a_state_that_lost_the_password_gets_no_new_one(server: ProviderServer) -> None:
    with pytest.raises(ProviderError, match="would lock every client out"):
        server.read(Resource("generated-password", DECLARED, {**server.up(DECLARED).outputs, "result": ""}))


def test_the_password_is_in_the_outputs_alone() -> None:
    with ProviderServer(PasswordProvider()) as server:
        resource = server.up(DECLARED)
        server.read(resource)
        server.delete(resource)
        said = server.stop()

    password = resource.outputs["result"]
    assert password not in said
    assert password not in json.dumps(resource.inputs)


class Engine(mocks.Mocks):
    """Answers as the provider would."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, object]]:
        return f"{args.name}-id", {**args.inputs, "result": "made-by-the-provider"}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


class Monitor(mocks.MockMonitor):
    """Keeps what the engine is told about each resource."""

    def __init__(self) -> None:
        super().__init__(Engine())
        self.told: list[resource_pb2.RegisterResourceRequest] = []

    def RegisterResource(  # noqa: N802  # gRPC's name
        self, request: resource_pb2.RegisterResourceRequest
    ) -> resource_pb2.RegisterResourceResponse:
        self.told.append(request)
        return super().RegisterResource(request)  # type: ignore[no-any-return, no-untyped-call]


def test_the_result_is_a_secret_for_the_engine_and_for_the_program() -> None:
    monitor = Monitor()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mocks.set_mocks(Engine(), project="celery-fleet", stack="test", monitor=monitor)

    async def program() -> tuple[object, bool]:
        password = GeneratedPassword("broker-password")
        value, secret = await password.result.future(), await password.result.is_secret()
        await wait_for_rpcs()
        return value, secret

    assert loop.run_until_complete(program()) == ("made-by-the-provider", True)
    loop.close()
    _, told = monitor.told  # the stack itself is the first
    assert told.type == "pulumi-python:dynamic/celeryfleet:GeneratedPassword"
    assert list(told.additionalSecretOutputs) == ["result"]
    assert "made-by-the-provider" not in str(told.object)


def _wired(value: object) -> object:
    return float(value) if isinstance(value, int) else value
