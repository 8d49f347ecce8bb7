"""How a server's password comes about, where it lies, and how pods learn that it has changed.

It owns the Secrets' keys, the mark of a password, and the volume in which a server finds both. A password is
given in the stack's configuration or made by `infra.password`, and is nowhere but in a Secret. What happens
when it changes, and in which order: docs/decisions/0018-rotation.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import pulumi
from pulumi_kubernetes import core

from infra.components.pod_baseline import Identity, Manifest
from infra.password import GeneratedPassword
from infra.rotation import ASKED
from scaler import contract

URL: Final = "url"
SCALER_URL: Final = "scaler-url"
MANAGEMENT_URL: Final = "management-url"
USERNAME: Final = "username"
PASSWORD: Final = "password"  # noqa: S105  # a key's name
SCALER_USERNAME: Final = "scaler-username"
SCALER_PASSWORD: Final = "scaler-password"  # noqa: S105  # a key's name
MARK: Final = "mark"
FOLDER: Final = "/etc/celery-fleet/credentials"
"""Where a server finds the Secret, and its own ConfigMap; what reads them is in `infra/components/start/`."""

BROKER_MARK: Final = f"{contract.GROUP}/broker-password-mark"
RESULTS_MARK: Final = f"{contract.GROUP}/result-backend-password-mark"
MARKS: Final = (BROKER_MARK, RESULTS_MARK)
"""Annotations of the pods that read a password when they start: a new one starts them anew."""


def password_of(name: str, given: str, generation: int, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """`given` or, where that is empty, one made at random."""
    if given:
        return pulumi.Output.secret(given)
    return GeneratedPassword(name, generation=generation, opts=opts).result


def password_mark(password: str, *, salt: str) -> str:
    """A text that changes when the password does, and is no help in guessing it.

    Whoever may read pods reads annotations: 32 bits of a slow hash leave too many candidates to tell a
    right guess from a wrong one, and too few chances of a collision to matter.
    """
    digest = hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=4)
    return digest.hex()


def mark_of(password: pulumi.Output[str], salt: str) -> pulumi.Output[str]:
    """In the clear, as an annotation is."""
    return pulumi.Output.unsecret(password.apply(lambda text: password_mark(text, salt=salt)))


def secret(
    resource_name: str,
    name: str,
    namespace: str,
    identity: Identity,
    data: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> core.v1.Secret:
    metadata: Any = {"name": name, "namespace": namespace, "labels": identity.labels}
    return core.v1.Secret(resource_name, metadata=metadata, string_data=dict(data), opts=opts)


def secret_variable(name: str, secret: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def volume_of(secret_name: str, config_map: str) -> Manifest:
    """The keys of both as files, and `asked`: the kubelet renews a pod's volumes within 90 s of a change of
    the Secret, and at once when the pod's own annotation changes."""
    asked = {"path": "asked", "fieldRef": {"fieldPath": f"metadata.annotations['{ASKED}']"}}
    sources = [
        {"secret": {"name": secret_name}},
        {"configMap": {"name": config_map}},
        {"downwardAPI": {"items": [asked]}},
    ]
    return {"projected": {"sources": sources}}
