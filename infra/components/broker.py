"""The broker of the stack, whichever it is: the Secret that opens it, and what its clients need beside that.

It owns the Secret `celery-broker`, its keys, and the choice between Redis (`infra.components.redis`),
RabbitMQ (`infra.components.rabbitmq`) and one of the user's (`infra.components.external`). With
`existingSecret` it makes no Secret and takes yours. The rest of the program takes what is here and does not
know which it is.

The server, where the stack runs it, is a `infra.components.server.Server` of its own: Redis may be the result
backend beside another broker, and stays what it was when the broker changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from infra.components import external, rabbitmq, redis
from infra.components.credentials import (
    BROKER_MARK,
    MANAGEMENT_URL,
    MARK,
    PASSWORD,
    SCALER_PASSWORD,
    SCALER_URL,
    SCALER_USERNAME,
    URL,
    USERNAME,
    mark_of,
    password_mark,
    password_of,
    secret,
    secret_variable,
)
from infra.components.fleet_objects import digest
from infra.components.pod_baseline import Identity, Manifest
from infra.components.server import Program, Server, kept
from infra.settings import Settings
from infra.settings.backends import EXTERNAL, QUORUM, RABBITMQ, REDIS
from infra.settings.delivery import protocol, transport_options

SECRET: Final = "celery-broker"  # noqa: S105  # a name
PLACING: Final = (
    "global_keyprefix",
    "sep",
    "priority_steps",
    "unacked_key",
    "unacked_index_key",
    "master_name",
)
"""Of kombu's options, those that decide under which keys messages lie."""
Keeping = dict[str, pulumi.Input[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerArgs:
    settings: Settings
    known_keys: frozenset[str] = field(default_factory=frozenset)
    """Of `existingSecret`, as far as it could be looked at."""
    known_scheme: str = ""
    """Of its URL, likewise."""


class Broker(pulumi.ComponentResource):
    secret_name: str
    """Holds the broker's URL; pods take it from there, never from an input."""
    mark: pulumi.Output[str] | None = None
    """Changes with the credentials of its clients; None where the Secret is the user's."""
    secrets: list[pulumi.Resource]
    """What the program makes of it, for others to wait for."""
    scaler_volume: Manifest
    """Holds the scaler's own credentials, as the files `url` and, of RabbitMQ, `management-url`."""
    has_management: bool
    """Whether the second may be there."""

    def __init__(self, name: str, args: BrokerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Broker", name, None, opts)
        settings = args.settings
        self._settings = settings
        self._scheme = args.known_scheme or settings.broker_url.partition("://")[0]
        self.secret_name = settings.existing_secret or SECRET
        self.secrets = []
        keys = args.known_keys
        if not settings.existing_secret:
            data = self._data(name)
            keys = frozenset(data)
            identity = Identity(stack=settings.stack, name=settings.broker, component="broker")
            child = pulumi.ResourceOptions(parent=self)
            self.secrets.append(secret(f"{name}-secret", SECRET, settings.namespace, identity, data, child))
        own = SCALER_URL if SCALER_URL in keys else URL
        theirs = bool(settings.existing_secret) or settings.broker == EXTERNAL
        self.has_management = MANAGEMENT_URL in keys or (theirs and protocol(settings) != "redis")
        self.scaler_volume = self._volume({URL: own}, optional=self.has_management and theirs)
        self.register_outputs({"secret_name": self.secret_name})

    @property
    def pod_annotations(self) -> dict[str, pulumi.Output[str]]:
        """For every pod that reads the Secret when it starts: one with a new password starts anew."""
        return {} if self.mark is None else {BROKER_MARK: self.mark}

    @property
    def environment(self) -> list[Manifest]:
        """Celery prefers it to what the app configures (celery/app/utils.py, Settings)."""
        return [secret_variable("CELERY_BROKER_URL", self.secret_name, URL)]

    @property
    def own_environment(self) -> list[Manifest]:
        """Of pods whose image is this project's, which have no command line for configuration."""
        return external.environment(self._settings, self._scheme)

    @property
    def worker_configuration(self) -> list[str]:
        """Celery's own, for what follows `--` on a worker's command line."""
        options = transport_options(self._settings)
        quorum = self._settings.queue_type == QUORUM
        return [
            *(["task.default_queue_type=quorum", "task.create_missing_queue_type=quorum"] if quorum else []),
            *external.worker_configuration(self._settings, self._scheme),
            *([f"broker.transport_options=(dict){_text(options)}"] if options else []),
        ]

    def _volume(self, files: Mapping[str, str], *, optional: bool) -> Manifest:
        """Not the whole Secret, which opens the broker to the workers. Nobody has to look into a Secret of
        the user's for its `management-url` to be found, also later."""
        management = {"key": MANAGEMENT_URL, "path": MANAGEMENT_URL}
        items = [{"key": key, "path": file} for file, key in files.items()]
        if self.has_management and not optional:
            items.append(management)
        sources: list[Manifest] = [{"secret": {"name": self.secret_name, "items": items}}]
        if optional:
            sources.append({"secret": {"name": self.secret_name, "items": [management], "optional": True}})
        return {"projected": {"sources": sources}}

    def _data(self, name: str) -> dict[str, pulumi.Input[str]]:
        settings = self._settings
        if settings.broker == EXTERNAL:
            url = pulumi.Output.secret(external.with_authorities(settings.broker_url, settings))
            self.mark = mark_of(url, settings.namespace)
            return {URL: url, MARK: self.mark}
        given = settings.redis_password if settings.broker == REDIS else settings.rabbitmq_password
        child = pulumi.ResourceOptions(parent=self)
        password = password_of(f"{name}-password", given, settings.password_generation, child)
        scalers = password_of(f"{name}-scaler-password", "", settings.password_generation, child)
        self.mark = mark_of(password, settings.namespace)
        known = pulumi.Output.all(password, scalers)
        return {
            **{
                key: known.apply(lambda both, key=key: opened(settings, *both)[key])  # type: ignore[misc]
                for key in opened(settings, "", "")
            },
            MARK: self.mark,
        }


def opened(settings: Settings, password: str, scalers: str) -> dict[str, str]:
    """What opens the stack's own broker, by the Secret's keys.

    RabbitMQ has one password a user, so its users' names change with their passwords.
    """
    if settings.broker == REDIS:
        return {
            PASSWORD: password,
            URL: redis.url(settings, password),
            SCALER_PASSWORD: scalers,
            SCALER_URL: redis.url(settings, scalers, redis.SCALER_USER),
        }
    user = named(rabbitmq.USER, password, settings)
    scaler = named(rabbitmq.SCALER_USER, scalers, settings)
    return {
        USERNAME: user,
        PASSWORD: password,
        URL: rabbitmq.url(settings, user, password),
        SCALER_USERNAME: scaler,
        SCALER_PASSWORD: scalers,
        SCALER_URL: rabbitmq.url(settings, scaler, scalers),
        MANAGEMENT_URL: rabbitmq.management_url(settings, scaler, scalers),
    }


def named(user: str, password: str, settings: Settings) -> str:
    return f"{user}-{password_mark(password, salt=settings.namespace)}" if password else user


def program_of(settings: Settings) -> Program | None:
    """Of the server that the stack runs as its broker."""
    return {REDIS: redis.program, RABBITMQ: rabbitmq.program}.get(settings.broker, _none)(settings)


def _none(_settings: Settings) -> None:
    return None


def keeping_of(settings: Settings, server: Server | None) -> Keeping:
    """What must stay as it is for queued messages to be found again, by the setting's name.

    Without a volume every new pod of the server begins empty, so whatever makes one belongs to it: by setting
    for the sentence that a person reads, and last the pod as a whole, which a newer program may change
    without any setting. A state that lacks one of them is not held to it (`preflight._change`).
    """
    options = transport_options(settings)
    found: Keeping = {
        "broker": settings.broker,
        "existingSecret": settings.existing_secret,
        "brokerTransportOptions": _text({key: options[key] for key in PLACING if key in options}),
        # States of older programs hold it, and nothing that names their broker.
        "redisPersistence": kept(settings.redis_persistence)
        if settings.broker == REDIS
        else "another broker",
    }
    if settings.broker_url:
        place = external.without_credentials(settings.broker_url)
        found["brokerUrl"] = password_mark(place, salt=settings.namespace)
    if settings.queue_type == QUORUM or settings.broker == RABBITMQ:
        found["queueType"] = settings.queue_type
    if settings.broker == RABBITMQ:
        found["rabbitmqPersistence"] = kept(settings.rabbitmq_persistence)
    if server is None or server.keeps_data:
        return found
    name = server.deployment_name
    image = settings.redis_image if name == redis.NAME else settings.rabbitmq_image
    resources = settings.redis_resources if name == redis.NAME else settings.rabbitmq_resources
    return {
        **found,
        "imagePullPolicy": settings.defaults.image_pull_policy,
        "imagePullSecrets": ", ".join(settings.defaults.image_pull_secrets),
        f"{name}Image": image,
        f"{name}Resources": _text(resources),
        f"{name}Template": digest(server.template),
    }


def forms(settings: Settings) -> dict[str, str]:
    """The Secret's keys with the form of each value, for a person who makes it."""
    if settings.broker == EXTERNAL:
        return {URL: "<url>"}
    stand_ins = {"Password0Of0The0Broker": "<password>", "Password0Of0The0Scaler": "<scaler-password>"}
    found = opened(settings, *stand_ins)
    for stand_in, shown in stand_ins.items():
        mark = f"-{password_mark(stand_in, salt=settings.namespace)}"
        found = {key: text.replace(stand_in, shown).replace(mark, "") for key, text in found.items()}
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
