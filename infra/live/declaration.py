"""What a stack declares to its lifecycle resource, as it comes back over the provider's wire.

It owns the properties' names, their reading (whole numbers arrive as floats, pulumi/pulumi#13830; an
older program's state may lack a key; at a preview some are not known yet) and which of them make an
update. It refuses nothing: `infra.settings` has checked the values, `infra.live.preflight` checks them
against the cluster.

The names are stack state, as those in `infra.lifecycle` are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import pulumi

UPDATING: Final = (
    "namespace",
    "context",
    "stack",
    "deployments",
    "celeries",
    "config_digest",
    "on_destroy",
    "drain_timeout_seconds",
    "stopped",
)
"""Properties whose change is an update. Not the timeouts of `up`, which say nothing about the fleet; not the
kubeconfig's path, which is one machine's matter; not the schema's revision, which another stack raises."""

NOT_MADE_YET: Final = "one that is not made yet"
DRAIN_TIMEOUT_SECONDS: Final = 3600
"""For a state that an older program made."""


class OnDestroy(StrEnum):
    DRAIN = "drain"
    REFUSE = "refuse"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    namespace: str
    context: str
    kubeconfig_path: str
    stack: str
    deployments: tuple[str, ...]
    celeries: Mapping[str, str]
    config_digest: str
    ready_timeout_seconds: int
    image_timeout_seconds: int
    on_destroy: str
    drain_timeout_seconds: int
    shadow: tuple[str, ...]
    """Of the Deployments, those that the scaler only watches; none where an older program made the state."""
    producers: tuple[str, ...]
    """Deployments of the stack's own that publish tasks."""
    stopped: tuple[str, ...]
    """Of them, those that `check` found at 0: an update brings them back."""
    queues: Mapping[str, str]
    """Of each pool, as `a,b`; empty where an older program made the state."""
    broker: Mapping[str, str]
    """What decides whether queued messages are found again, by the setting's name; without credentials."""
    schema_revision: int
    cluster_uid: str
    """"" before the cluster was first reached, or where it may not be known."""

    def updates(self, other: Declaration) -> bool:
        return any(getattr(self, key) != getattr(other, key) for key in UPDATING)


def declaration_of(properties: Mapping[str, Any]) -> Declaration:
    def text(key: str) -> str:
        return str(properties.get(key) or "")

    def number(key: str, default: int) -> int:
        value = properties.get(key)
        return default if value is None else int(value)

    return Declaration(
        namespace=text("namespace"),
        context=text("context"),
        kubeconfig_path=text("kubeconfig_path"),
        stack=text("stack"),
        deployments=tuple(sorted(properties.get("deployments") or ())),
        celeries=dict(properties.get("celeries") or {}),
        config_digest=text("config_digest"),
        ready_timeout_seconds=number("ready_timeout_seconds", 60),
        image_timeout_seconds=number("image_timeout_seconds", 300),
        on_destroy=text("on_destroy") or OnDestroy.DRAIN.value,
        drain_timeout_seconds=number("drain_timeout_seconds", DRAIN_TIMEOUT_SECONDS),
        shadow=tuple(sorted(properties.get("shadow") or ())),
        producers=tuple(sorted(properties.get("producers") or ())),
        stopped=tuple(sorted(properties.get("stopped") or ())),
        queues=dict(properties.get("queues") or {}),
        broker=dict(properties.get("broker") or {}),
        schema_revision=number("schema_revision", 1),
        cluster_uid=text("cluster_uid"),
    )


def is_unknown(value: object) -> bool:
    """At preview a property may hang on a resource that is not there yet."""
    if isinstance(value, pulumi.output.Unknown):
        return True
    if isinstance(value, Mapping):
        return any(is_unknown(item) for item in value.values())
    return isinstance(value, list) and any(is_unknown(item) for item in value)


def known(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known yet. A part of `broker` that hangs on a resource still to be made, as a
    password that takes another's place, will be another than the recorded one."""
    found = {key: value for key, value in properties.items() if not is_unknown(value)}
    broker = properties.get("broker")
    if isinstance(broker, Mapping):
        found["broker"] = {key: NOT_MADE_YET if is_unknown(value) else value for key, value in broker.items()}
    return found
