"""A password of the stack: made at random, kept in the stack's state as a secret.

It owns one value for each `generation`: `update` and `refresh` hand back what there is, also when `length`
was edited, and only a generation that differs makes a new one (`passwordGeneration`). How servers and
clients change over to it is in docs/decisions/0018-rotation.md. It refuses lengths that are no secret, and
to invent a new value where the state has lost the old one.

The provider is pickled by reference: this module's name and its classes' names are stack state, so
they are never renamed without a migration. `infra.components.broker` puts the result into the broker's
Secret.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any, Final

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

__all__ = ["GeneratedPassword"]

ALPHABET: Final = string.ascii_letters + string.digits
"""Nothing that a broker URL, a shell or redis.conf would need escaped."""
MIN_LENGTH: Final = 16
"""95 bits: Redis answers some 100,000 AUTH attempts a second, and has no lock-out."""
MAX_LENGTH: Final = 128


class PasswordProvider(ResourceProvider):
    """Makes the value in `create` and returns it ever after."""

    serialize_as_secret_always = False
    """The pickle is this class's name, nothing more: a reader of the state may see it."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        length = news.get("length")
        # Numbers come over gRPC as floats (pulumi/pulumi#13830).
        if isinstance(length, float) and length.is_integer() and MIN_LENGTH <= length <= MAX_LENGTH:
            return CheckResult(news, [])
        reason = f"length must be a whole number from {MIN_LENGTH} to {MAX_LENGTH}, not {length!r}"
        return CheckResult(news, [CheckFailure("length", reason)])

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        # Left to the engine, an edited `length` would be an update, with the old password as outcome.
        return DiffResult(changes=_generation(olds) != _generation(news), replaces=[])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult("generated-password", _made(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return ReadResult(id_, _recorded(props))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        if _generation(olds) != _generation(news):
            return UpdateResult(_made(news))
        return UpdateResult({**_recorded(olds), "length": int(news["length"])})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """The value lives in the state alone; it goes with it."""


def _generation(properties: Mapping[str, Any]) -> int:
    """The first, in a state that an older program made."""
    return int(properties.get("generation") or 1)


def _made(properties: Mapping[str, Any]) -> dict[str, Any]:
    length = int(properties["length"])
    password = "".join(secrets.choice(ALPHABET) for _ in range(length))
    return {"length": length, "generation": _generation(properties), "result": password}


def _recorded(state: Mapping[str, Any]) -> dict[str, Any]:
    if not state.get("result"):
        raise ValueError(
            "the stack's state holds no generated password any more; a new one would lock every client "
            "out of the running server. Give the password that its Secret holds: "
            "pulumi config set --secret redisPassword, rabbitmqPassword or postgresqlPassword"
        )
    return {"length": state.get("length"), "generation": _generation(state), "result": state["result"]}


class GeneratedPassword(Resource, module="celeryfleet", name="GeneratedPassword"):
    """A random password of letters and digits."""

    result: pulumi.Output[str]
    """Secret: encrypted in the state, masked on screen."""

    def __init__(
        self,
        name: str,
        length: int = 32,
        generation: int = 1,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        # A provider cannot return a secret (pulumi/pulumi#3012): the engine makes it one in the state.
        secret = pulumi.ResourceOptions(additional_secret_outputs=["result"])
        super().__init__(
            PasswordProvider(),
            name,
            {"length": length, "generation": generation, "result": None},
            pulumi.ResourceOptions.merge(opts, secret),
        )
        # And this does where no engine runs: Pulumi's mocks ignore the option, and render manifests.
        self.result = pulumi.Output.secret(self.result)
