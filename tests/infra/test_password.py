"""The generated password, through the server that the engine would use."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra.password import PasswordProvider
from tests.infra.provider_server import ROOT, ProviderError, ProviderServer, Resource

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


PROGRAM = """
import asyncio, json
from pulumi.runtime import mocks
from pulumi.runtime.stack import wait_for_rpcs
from infra.password import GeneratedPassword

class Engine(mocks.Mocks):
    def new_resource(self, args):
        return f"{args.name}-id", {**args.inputs, "result": "made-by-the-provider"}

    def call(self, args):
        raise AssertionError(args.token)

class Monitor(mocks.MockMonitor):
    def RegisterResource(self, request):
        self.last = request
        return super().RegisterResource(request)

async def program():
    password = GeneratedPassword("broker-password")
    told = {"value": await password.result.future(), "secret": await password.result.is_secret()}
    await wait_for_rpcs()
    return told

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
monitor = Monitor(Engine())
mocks.set_mocks(Engine(), project="celery-fleet", stack="test", monitor=monitor)
told = loop.run_until_complete(program())
told["type"] = monitor.last.type
told["secret outputs"] = list(monitor.last.additionalSecretOutputs)
print(json.dumps(told))
"""
"""In a process of its own: Pulumi's mocks are global, and leave event loops behind."""


def test_the_result_is_a_secret_for_the_engine_and_for_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "value": "made-by-the-provider",
        "secret": True,
        "type": "pulumi-python:dynamic/celeryfleet:GeneratedPassword",
        "secret outputs": ["result"],
    }


def _wired(value: object) -> object:
    return float(value) if isinstance(value, int) else value
