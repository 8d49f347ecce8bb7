"""What the scaler makes of an API server that refuses, hangs, lies or ends: a local HTTP server plays it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from scaler.cluster import client as cluster_module
from scaler.cluster import wire
from scaler.cluster.client import Api
from scaler.cluster.namespace import CELERIES, DEPLOYMENT_SCALE, Namespace
from scaler.cluster.objects import CeleryObject, ClusterFailure, Deployment, Kind
from scaler.cluster.watch import OPENED
from tests.conftest import free_port
from tests.scaler.samples import AT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(code: int, message: str = "no", **headers: str) -> web.Response:
    """A failure as Kubernetes answers it."""
    body = {"kind": "Status", "status": "Failure", "message": message, "code": code, "metadata": {}}
    # aiohttp would add a charset, which Kubernetes does not.
    return web.Response(
        body=json.dumps(body).encode(), status=code, headers={"Content-Type": "application/json", **headers}
    )


@pytest.fixture
def kubeconfig_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def point(server: str) -> None:
        path = tmp_path / "kubeconfig"
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t0ken-marker"}}],
        }
        path.write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(path))

    return point


@pytest.fixture
async def api_of(
    kubeconfig_of: Callable[[str], None],
) -> AsyncIterator[Callable[[Handler], Awaitable[Api]]]:
    """Makes the client of a server that answers every request with one handler."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(handler: Handler) -> Api:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            port = free_port()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            kubeconfig_of(f"http://127.0.0.1:{port}")
            api = Api("shop", seen.append_request)
            stack.push_async_callback(api.close)
            return api

        yield make


class Seen:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []

    def append_request(self, verb: str, resource: str, code: str) -> None:
        self.requests.append((verb, resource, code))


seen = Seen()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.requests.clear()


async def failure_of(api: Api) -> ClusterFailure:
    with pytest.raises(ClusterFailure) as caught:
        await api.call("patch", DEPLOYMENT_SCALE, wire.Scale, name="sums-celery-worker", body=[])
    return caught.value


CODES = [
    (403, Kind.FORBIDDEN),
    (401, Kind.FORBIDDEN),
    (404, Kind.NOT_FOUND),
    (409, Kind.CONFLICT),
    (410, Kind.GONE),
    (422, Kind.INVALID),
    (400, Kind.INVALID),
    (429, Kind.SLOW_DOWN),
    (500, Kind.UNREACHABLE),
    (503, Kind.UNREACHABLE),
    (504, Kind.UNREACHABLE),
]


@pytest.mark.parametrize(("code", "kind"), CODES)
@pytest.mark.parametrize("as_json", [True, False], ids=["Kubernetes' own", "a proxy's"])
async def test_code_gives_the_kind(
    api_of: Callable[[Handler], Awaitable[Api]], code: int, kind: Kind, as_json: bool
) -> None:
    """Each answer has its meaning, whether Kubernetes gave it or a proxy before it."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return status(code, "because") if as_json else web.Response(status=code, text="<html>")

    failure = await failure_of(await api_of(answer))

    assert failure.kind is kind
    assert "patch deployments/scale in namespace shop" in failure.sentence
    assert seen.requests == [("patch", "deployments/scale", str(code))]


@pytest.mark.parametrize(
    ("wait", "seconds"), [("7", 7), ("", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("-1", 0)]
)
async def test_retry_after_is_read_where_it_is_seconds(
    api_of: Callable[[Handler], Awaitable[Api]], wait: str, seconds: float
) -> None:
    """Kubernetes gives whole seconds; a date is as if nothing were said."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return status(429, "slow down", **{"Retry-After": wait})

    assert (await failure_of(await api_of(answer))).retry_after_seconds == seconds


async def test_missing_definition_is_asked_about(api_of: Callable[[Handler], Awaitable[Api]]) -> None:
    """A 404 to a list can only mean that the API has no such kind."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="404 page not found")

    api = await api_of(answer)
    with pytest.raises(ClusterFailure, match=r"CustomResourceDefinition celery\.celeryproject\.org"):
        await anext(api.pages(CELERIES, wire.Celery))


async def test_server_that_is_away_is_unreachable(kubeconfig_of: Callable[[str], None]) -> None:
    """A refused connection is a sentence, and the token is not in it."""
    kubeconfig_of(f"http://127.0.0.1:{free_port()}")
    api = Api("shop", seen.append_request)
    failure = await failure_of(api)
    await api.close()

    assert failure.kind is Kind.UNREACHABLE
    assert "t0ken" not in failure.sentence
    assert seen.requests == [("patch", "deployments/scale", "none")]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(cluster_module, "STALL_SECONDS", 0.2)


async def hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.usefixtures("_impatient")
async def test_server_that_hangs_is_unreachable(api_of: Callable[[Handler], Awaitable[Api]]) -> None:
    """R13: a request has an end, whatever the server does."""
    failure = await failure_of(await api_of(hang))

    assert failure.kind is Kind.UNREACHABLE
    assert "no answer to patch deployments/scale" in failure.sentence


@pytest.mark.parametrize("body", ["", "{", "[]", '{"metadata": 7}', '"text"', "\x00"])
async def test_answer_that_is_no_object_is_a_failure(
    api_of: Callable[[Handler], Awaitable[Api]], body: str
) -> None:
    """A 200 with garbage is no success."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    assert (await failure_of(await api_of(answer))).kind is Kind.UNREACHABLE


def stream_of(*lines: dict[str, Any] | str, then_hang: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in lines:
            await response.write((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n")
        if then_hang:
            await asyncio.Event().wait()
        return response

    return answer


async def events_of(api: Api) -> list[tuple[str, str | None]]:
    return [
        (event, found.metadata.name if found else None)
        async for event, found in api.events(CELERIES, wire.Celery, "5")
    ]


def event(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": "9"}, **fields}}


async def test_stream_gives_its_events_and_ends(api_of: Callable[[Handler], Awaitable[Api]]) -> None:
    """The server ends a watch in its time; that is no failure."""
    api = await api_of(stream_of(event("ADDED", "sums"), event("BOOKMARK", ""), event("DELETED", "sums")))

    assert await events_of(api) == [(OPENED, None), ("ADDED", "sums"), ("BOOKMARK", ""), ("DELETED", "sums")]


async def test_stream_tells_that_its_version_is_too_old(
    api_of: Callable[[Handler], Awaitable[Api]],
) -> None:
    """Kubernetes says 410 inside a stream that it opened with 200."""
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old", "metadata": {}}}
    api = await api_of(stream_of(gone))
    with pytest.raises(ClusterFailure) as caught:
        await events_of(api)

    assert caught.value.kind is Kind.GONE


@pytest.mark.usefixtures("_impatient")
async def test_stream_that_stalls_is_noticed(api_of: Callable[[Handler], Awaitable[Api]]) -> None:
    """R9: silence beyond what the server promised is a failure, not peace."""
    api = await api_of(stream_of(event("ADDED", "sums"), then_hang=True))
    with pytest.raises(ClusterFailure) as caught:
        await events_of(api)

    assert caught.value.kind is Kind.UNREACHABLE


@pytest.mark.parametrize("line", ["{", '{"type": "ADDED"}', '{"type": "ADDED", "object": []}'])
async def test_stream_of_garbage_is_a_failure(api_of: Callable[[Handler], Awaitable[Api]], line: str) -> None:
    """A line that cannot be read means that the picture may be wrong: list again."""
    api = await api_of(stream_of(line))
    with pytest.raises(ClusterFailure):
        await events_of(api)


async def test_field_that_an_older_schema_let_in_is_that_objects_trouble(
    api_of: Callable[[Handler], Awaitable[Api]],
) -> None:
    """R15: one stored object of the wrong form does not hide the others."""
    odd = {"metadata": {"name": "odd", "generation": 1}, "spec": "a text", "status": ["a list"]}
    fine = {
        "metadata": {"name": "fine", "annotations": {"celeryproject.org/settings": "pools.fine"}},
        "spec": {"common": {"appName": "x"}, "scaleTargetRef": [{"kind": "worker"}]},
    }

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [odd, fine]})

    api = await api_of(answer)
    version, found = await anext(api.pages(CELERIES, wire.Celery))
    extracts = [wire.celery_extract(item, None) for item in found]

    assert version == "1"
    assert [extract and (extract.policy is not None, extract.invalid) for extract in extracts] == [
        (False, "scaleTargetRef must have exactly one entry, of kind worker"),
        (True, None),
    ]
    assert [extract and extract.settings for extract in extracts] == [None, "pools.fine"]


async def test_failed_test_of_a_patch_is_a_conflict(api_of: Callable[[Handler], Awaitable[Api]]) -> None:
    """A 422 to `/scale` says that the replicas are not what the decision was about."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return status(422, "the server rejected our request due to an error in our request")

    namespace = Namespace(await api_of(answer), "shop", "me")
    deployment = Deployment(
        name="sums", uid="u", resource_version=1, spec_replicas=2, replicas=2, foreign_owner=None
    )
    with pytest.raises(ClusterFailure) as caught:
        await namespace.set_replicas(deployment, 4)

    assert caught.value.kind is Kind.CONFLICT


async def test_long_note_is_cut(api_of: Callable[[Handler], Awaitable[Api]]) -> None:
    """events.k8s.io refuses notes of 1 kB: better a cut sentence than none."""
    bodies: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response({"metadata": {"name": "e"}}, status=201)

    namespace = Namespace(await api_of(answer), "shop", "me")
    celery = CeleryObject(name="sums", uid="u", generation=1, policy=None, invalid=None, stored_status={})
    await namespace.create_event(celery, warning=True, reason="R", action="A", note="é" * 2000, at=AT)

    assert len(bodies[0]["note"].encode()) < 1024
    assert bodies[0]["type"] == "Warning"
