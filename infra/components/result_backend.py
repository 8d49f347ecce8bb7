"""Where results go, whichever place it is: the Secret that opens it, and what its clients need beside that.

It owns the Secret `celery-result-backend` and the choice between Redis, PostgreSQL, one of the user's and
none. Where the broker is the stack's Redis, that is the result backend, too, by the broker's Secret. As
with `infra.components.broker`, the rest of the program does not know which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from infra.components import external, postgresql, redis
from infra.components.broker import Broker, named
from infra.components.credentials import (
    MARK,
    PASSWORD,
    RESULTS_MARK,
    URL,
    USERNAME,
    mark_of,
    password_mark,
    password_of,
    secret,
    secret_variable,
)
from infra.components.pod_baseline import Identity, Manifest
from infra.components.server import Program
from infra.settings import Settings
from infra.settings.backends import EXTERNAL, NONE, POSTGRESQL, REDIS

SECRET: Final = "celery-result-backend"  # noqa: S105  # a name
VARIABLE: Final = "CELERY_RESULT_BACKEND"
DISABLED: Final = "disabled://"
"""Celery's own word for no result backend (celery/app/backends.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultBackendArgs:
    settings: Settings
    broker: Broker


class ResultBackend(pulumi.ComponentResource):
    secret_name: str
    """Holds its URL; "" where there is none."""
    mark: pulumi.Output[str] | None = None
    """As the broker's, where it has a Secret of its own."""
    secrets: list[pulumi.Resource]

    def __init__(
        self, name: str, args: ResultBackendArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("celery:infra:ResultBackend", name, None, opts)
        settings = args.settings
        self.secrets = []
        self.secret_name = SECRET
        if is_the_broker(settings):
            self.secret_name = args.broker.secret_name
        elif settings.result_backend == NONE:
            self.secret_name = ""
        elif settings.result_backend_secret:
            self.secret_name = settings.result_backend_secret
        else:
            data = self._data(name, settings)
            identity = Identity(
                stack=settings.stack, name=settings.result_backend, component="result-backend"
            )
            child = pulumi.ResourceOptions(parent=self)
            self.secrets.append(secret(f"{name}-secret", SECRET, settings.namespace, identity, data, child))
        self.register_outputs({"secret_name": self.secret_name})

    @property
    def pod_annotations(self) -> dict[str, pulumi.Output[str]]:
        return {} if self.mark is None else {RESULTS_MARK: self.mark}

    @property
    def environment(self) -> list[Manifest]:
        """Celery prefers it to what the app configures (celery/app/utils.py, Settings)."""
        if not self.secret_name:
            return [{"name": VARIABLE, "value": DISABLED}]
        return [secret_variable(VARIABLE, self.secret_name, URL)]

    def _data(self, name: str, settings: Settings) -> dict[str, pulumi.Input[str]]:
        if settings.result_backend == EXTERNAL:
            given = external.with_authorities(settings.result_backend_url, settings)
            url = pulumi.Output.secret(given)
            self.mark = mark_of(url, settings.namespace)
            return {URL: url, MARK: self.mark}
        given = settings.redis_password if settings.result_backend == REDIS else settings.postgresql_password
        child = pulumi.ResourceOptions(parent=self)
        password = password_of(f"{name}-password", given, settings.password_generation, child)
        self.mark = mark_of(password, settings.namespace)
        return {
            **{
                key: password.apply(lambda text, key=key: opened(settings, text)[key])  # type: ignore[misc]
                for key in opened(settings, "")
            },
            MARK: self.mark,
        }


def is_the_broker(settings: Settings) -> bool:
    return settings.result_backend == REDIS == settings.broker


def opened(settings: Settings, password: str) -> dict[str, str]:
    """What opens the stack's own result backend, by the Secret's keys; its user changes with the password."""
    if settings.result_backend == REDIS:
        return {PASSWORD: password, URL: redis.url(settings, password)}
    user = named(postgresql.USER, password, settings)
    return {USERNAME: user, PASSWORD: password, URL: postgresql.url(settings, user, password)}


def program_of(settings: Settings) -> Program | None:
    """Of the server that the stack runs for results alone."""
    if settings.result_backend == POSTGRESQL:
        return postgresql.program(settings)
    return redis.program(settings) if settings.result_backend == REDIS != settings.broker else None


def forms(settings: Settings) -> dict[str, str]:
    """The Secret's keys with the form of each value, for a person who makes it."""
    if settings.result_backend == EXTERNAL:
        return {URL: "<url>"}
    stand_in = "Password0Of0The0Results"
    mark = f"-{password_mark(stand_in, salt=settings.namespace)}"
    return {
        key: text.replace(stand_in, "<password>").replace(mark, "")
        for key, text in opened(settings, stand_in).items()
    }
