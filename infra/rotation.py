"""The moment from which a server of the stack knows its new password, as a resource of its own.

It owns the wait between a Secret that has changed and the clients that start anew with it: whoever depends
on this resource is changed only when the server takes the new password beside the old one. On the way up it
waits for nothing, since a server that starts reads the Secret first. The password is not among its inputs,
a mark of it is; what the server says of it is in its pod's log. The whole order is in
docs/decisions/0018-rotation.md.

The provider is pickled by reference and runs in a process of its own, as `infra.lifecycle` does: this
module's name, its classes' names and its properties' names are stack state. Clients are loaded inside the
methods.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import Any, Final

import pulumi
from pulumi.dynamic import (
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from scaler.contract import GROUP

__all__ = ["Rotation", "RotationArgs"]

ASKED: Final = f"{GROUP}/asked"
"""Annotation of a server's pod. A change of it makes the kubelet renew the pod's volumes at once, and the
server say again what is in force."""
TAKE_UP_SECONDS: Final = 180
"""The kubelet renews a Secret's files within 90 s even without being asked."""


class PasswordNotTakenUp(Exception):  # noqa: N818  # the fact, not the failure
    """What a person reads under `error:`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationArgs:
    """Which server is waited for, and on which cluster."""

    namespace: pulumi.Input[str]
    context: pulumi.Input[str] = ""
    kubeconfig_path: pulumi.Input[str] = ""
    server: pulumi.Input[str]
    """Its Deployment's name."""
    mark: pulumi.Input[str]
    """Of the password that is to be in force."""


class RotationProvider(ResourceProvider):
    """Waits in `update`, and nowhere else."""

    serialize_as_secret_always = False
    """The pickle is this class's name, nothing more: a reader of the state may see it."""

    _kubeconfig = ""

    def configure(self, req: ConfigureRequest) -> None:
        self._kubeconfig = str(req.config.get("kubernetes:kubeconfig") or "")

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        return CheckResult(news, [])

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        changed = [key for key in ("namespace", "server", "mark") if olds.get(key) != news.get(key)]
        return DiffResult(changes=bool(changed), replaces=[])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(f"{props['namespace']}/{props['server']}", dict(props))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        from infra.live.cluster import ClusterUnavailable, NotAllowed
        from infra.live.kubeconfig import NoCluster
        from infra.live.passwords import NotTakenUp, Servers, wait_until_in_force

        vars(sys).pop("tracebacklimit", None)
        try:
            kubeconfig = str(news.get("kubeconfig_path") or "") or self._kubeconfig
            with Servers(str(news.get("context") or ""), kubeconfig) as servers:
                wait_until_in_force(servers, news["namespace"], news["server"], news["mark"], TAKE_UP_SECONDS)
        except (NoCluster, ClusterUnavailable, NotAllowed, NotTakenUp) as error:
            # The server prints the stack of whatever a provider raises; this is a sentence, without one.
            sys.tracebacklimit = 0
            raise PasswordNotTakenUp(str(error)) from None
        return UpdateResult(dict(news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return ReadResult(id_, props)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """There is nothing of it in the cluster."""


class Rotation(Resource, module="celeryfleet", name="Rotation"):
    """Depends on the server and its Secret; whoever starts anew with a new password depends on it."""

    def __init__(self, name: str, args: RotationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {item.name: getattr(args, item.name) for item in fields(args)}
        super().__init__(RotationProvider(), name, declared, opts)
