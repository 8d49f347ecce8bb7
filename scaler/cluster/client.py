"""Talks to the Kubernetes API: the only file that imports its client.

It owns how a request is made, counted and timed out, and what a failed one means. It does not know what
the objects are for: `scaler.cluster.namespace` says what is asked, `scaler.cluster.wire` which fields come
back.

Source of the client's contract: lightkube 1.0.1, core/generic_client.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar, cast

import httpx2
import msgspec
from lightkube.config.client_adapter import ConnectionParams
from lightkube.core import decoders
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.core.generic_client import BasicRequest, GenericAsyncClient

from scaler.cluster.objects import ClusterFailure, Kind
from scaler.cluster.watch import OPENED
from scaler.contract import SCALER_NAME

REQUEST_SECONDS: Final = 4.0
"""How long a request may take in all. A tick that waits for the last one still ends in time for /healthz."""
WATCH_SECONDS: Final = 50
"""How long the server keeps a watch open; it sends a bookmark before it ends one."""
STALL_SECONDS: Final = 55.0
"""Silence after which a stream counts as stalled: above WATCH_SECONDS, so that a quiet one is not."""
PAGE: Final = 100
"""Objects a page of a list: bounds the memory that decoding takes."""
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"

_S = TypeVar("_S", bound=msgspec.Struct)
Observer = Callable[[str, str, str], None]
"""Told of each request: verb, resource, and the status code or `none` where there was no answer."""


@dataclass(frozen=True, slots=True)
class Resource:
    group: str
    version: str
    plural: str
    subresource: str = ""
    label: str = ""
    """Only objects that carry this label are listed and watched."""

    def __str__(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    def url(self, namespace: str, name: str) -> str:
        parts = [
            *(["apis", self.group] if self.group else ["api"]),
            self.version,
            "namespaces",
            namespace,
            self.plural,
            name,
            self.subresource,
        ]
        return "/".join(part for part in parts if part)


_METHODS: Final = {
    "list": "GET",
    "watch": "GET",
    "get": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
}


class Api(GenericAsyncClient):
    """Requests in one namespace, as the verbs of RBAC; each raises ClusterFailure."""

    def __init__(self, namespace: str, observe: Observer) -> None:
        """Find the cluster: the pod's service account, else `KUBECONFIG`. Raises ClusterFailure."""
        timeout = httpx2.Timeout(REQUEST_SECONDS, connect=2.0)
        try:
            super().__init__(ConnectionParams(timeout=timeout), namespace=namespace)
        except (ConfigError, OSError) as error:
            raise ClusterFailure(Kind.UNREACHABLE, f"no cluster is configured: {error}") from error
        self._observe = observe
        self._in = namespace

    async def call(
        self,
        verb: str,
        resource: Resource,
        answer: type[_S],
        *,
        name: str = "",
        body: object = None,
        content_type: str = "application/json",
    ) -> _S:
        request = self._request(verb, resource, answer, name=name)
        if verb in ("create", "update", "patch"):
            request.params["fieldManager"] = SCALER_NAME
            request.data = body
            request.headers = {"Content-Type": content_type}
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self._send(verb, resource, self.build_adapter_request(request))
            result: _S = self.handle_response(verb, response, request)
        except _FAILURES as error:
            self._fail(error, verb, resource)
        return result

    async def pages(self, resource: Resource, answer: type[_S]) -> AsyncIterator[tuple[str, list[_S]]]:
        request = self._request("list", resource, answer)
        request.params |= {"limit": str(PAGE), **_selector(resource)}
        more = True
        while more:
            try:
                response = await self._send("list", resource, self.build_adapter_request(request))
                more, version, items = self.handle_response("list", response, request)
            except _FAILURES as error:
                self._fail(error, "list", resource)
            yield version or "", items

    async def events(
        self, resource: Resource, answer: type[_S], version: str
    ) -> AsyncIterator[tuple[str, _S | None]]:
        """One stream of changes; it ends when the server ends it, and fails when it stalls."""
        request = self._request("watch", resource, answer)
        request.params |= {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "allowWatchBookmarks": "true",
            **_selector(resource),
        }
        request.timeout = httpx2.Timeout(REQUEST_SECONDS, connect=2.0, read=STALL_SECONDS)
        response = None
        try:
            sent = self.build_adapter_request(request)
            response = await self._send("watch", resource, sent, stream=True)
            if response.is_error:
                await response.aread()
                self.raise_for_status(response)  # type: ignore[no-untyped-call]  # lightkube leaves it so
            yield OPENED, None
            async for line in response.aiter_lines():
                event = decoders.decode_watch_event(line.encode())
                if event.type == "ERROR":
                    raise ApiError(status=decoders.decode_status(event.object))
                yield event.type, decoders.decode_object(event.object, answer)
        except _FAILURES as error:
            self._fail(error, "watch", resource)
        finally:
            if response is not None:
                await response.aclose()

    async def close(self) -> None:
        await self._client.aclose()

    def _request(self, verb: str, resource: Resource, answer: type[_S], name: str = "") -> BasicRequest:
        url = resource.url(self._in, name)
        return BasicRequest(method=_METHODS[verb], url=url, response_type=cast(Any, answer), params={})

    async def _send(
        self, verb: str, resource: Resource, request: httpx2.Request, *, stream: bool = False
    ) -> httpx2.Response:
        code = "none"
        try:
            response: httpx2.Response = await self._client.send(request, stream=stream)
            code = str(response.status_code)
            return response
        finally:
            self._observe(verb, str(resource), code)

    def _fail(self, error: Exception, verb: str, resource: Resource) -> NoReturn:
        wanted = f"{verb} {resource} in namespace {self._in}"
        if not isinstance(error, httpx2.HTTPStatusError):
            said = (
                "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            )
            sentence = f"the Kubernetes API gave no answer to {wanted}: {said}"
            raise ClusterFailure(Kind.UNREACHABLE, sentence) from error
        code, seconds = _code(error), 0.0
        if error.response is not None:
            wait = error.response.headers.get("Retry-After", "")
            seconds = float(wait) if wait.isdecimal() else 0.0
        if code in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            raise ClusterFailure(Kind.FORBIDDEN, f"the scaler may not {wanted}: {error}") from error
        kind = _KINDS.get(code, Kind.UNREACHABLE if code >= 500 else Kind.INVALID)
        # httpx2 adds a second line with a link to what the status code means.
        said = str(error).partition("\n")[0]
        if kind is Kind.NOT_FOUND and verb in ("list", "watch"):
            said = f"is the CustomResourceDefinition {resource.plural}.{resource.group} there?"
        sentence = f"the Kubernetes API answered {code} to {wanted}: {said}"
        raise ClusterFailure(kind, sentence, seconds) from error


def _selector(resource: Resource) -> dict[str, str]:
    return {"labelSelector": resource.label} if resource.label else {}


_FAILURES: Final = (httpx2.HTTPError, httpx2.StreamError, msgspec.MsgspecError, ConfigError, OSError)
_KINDS: Final[Mapping[int, Kind]] = {
    HTTPStatus.NOT_FOUND: Kind.NOT_FOUND,
    HTTPStatus.CONFLICT: Kind.CONFLICT,
    HTTPStatus.GONE: Kind.GONE,
    HTTPStatus.TOO_MANY_REQUESTS: Kind.SLOW_DOWN,
}


def _code(error: httpx2.HTTPStatusError) -> int:
    if error.response is not None:
        return int(error.response.status_code)
    return int(error.status.code or 0) if isinstance(error, ApiError) else 0
