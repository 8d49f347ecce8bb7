"""What the user made for the stack: the Secrets and ConfigMaps that its settings name, as far as may be seen.

It owns which keys each must have, and what the program wants to know of the broker's: which keys beside
those, and the scheme of its URL. Nothing else of a value is looked at or kept. Who may deploy need not be
able to read Secrets: then nothing is known, and what lacks is the kubelet's to say.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lightkube.resources.core_v1 import ConfigMap, Secret

from infra.components import external
from infra.components.credentials import PASSWORD, URL
from infra.components.flower import AUTH_KEY
from infra.live.cluster import Cluster, NotAllowed, NotThere
from infra.settings import Settings
from infra.settings.backend_rules import BROKER_SCHEMES
from infra.settings.backends import EXTERNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """An object of the user's, and the keys without which pods could not start."""

    name: str
    keys: tuple[str, ...]
    kind: str = "secret"


class Givers(Protocol):
    """The cluster, as far as it is asked here."""

    def read_keys(self, kind: str, namespace: str, name: str) -> frozenset[str] | None: ...
    def read_scheme(self, namespace: str, name: str, key: str) -> str: ...


class Given(Cluster):
    """The cluster, with what the user put there."""

    def read_keys(self, kind: str, namespace: str, name: str) -> frozenset[str] | None:
        """Of a `secret` or a `configmap`; None where there is none. Its values are not looked at."""
        try:
            with self._asking():
                kinds: dict[str, type[Secret] | type[ConfigMap]] = {"secret": Secret, "configmap": ConfigMap}
                found = self._client.get(kinds[kind], name, namespace=namespace)
        except NotThere:
            return None
        return frozenset(found.data or {})

    def read_scheme(self, namespace: str, name: str, key: str) -> str:
        """Of the URL in a Secret, "" where there is none."""
        with self._asking():
            found = self._client.get(Secret, name, namespace=namespace)
        url = base64.b64decode((found.data or {}).get(key, "")).decode(errors="replace")
        return url.partition("://")[0] if "://" in url else ""


def needed(settings: Settings) -> Iterator[Needed]:
    if settings.existing_secret:
        keys = (URL,) if settings.broker == EXTERNAL else (PASSWORD, URL)
        yield Needed(name=settings.existing_secret, keys=keys)
    if settings.result_backend_secret:
        yield Needed(name=settings.result_backend_secret, keys=(URL,))
    if settings.broker_ca:
        kind, name, *key = settings.broker_ca.split("/")
        yield Needed(name=name, keys=(key[0] if key else external.CA_KEY,), kind=kind)
    if settings.flower_auth_secret:
        yield Needed(name=settings.flower_auth_secret, keys=(AUTH_KEY,))


def lacking(settings: Settings, live: Givers) -> Iterator[str]:
    """What is not there, with the command that makes it."""
    namespace = settings.namespace
    for each in needed(settings):
        word, command = {
            "secret": ("Secret", "secret generic"),
            "configmap": ("ConfigMap", "configmap"),
        }[each.kind]
        try:
            keys = live.read_keys(each.kind, namespace, each.name)
        except NotAllowed:
            continue
        if keys is None:
            of_files = "file" if each.name in settings.broker_ca.split("/") else "literal"
            made = " ".join(f"--from-{of_files}={key}=..." for key in each.keys)
            yield (
                f"{word} {each.name} is not in namespace {namespace}. "
                f"Make it: kubectl create {command} {each.name} -n {namespace} {made}"
            )
        elif missing := sorted(set(each.keys) - keys):
            yield f"{word} {each.name} in namespace {namespace} lacks {', '.join(missing)}. Add it."
        elif each.name == settings.existing_secret:
            yield from _scheme(settings, live)


def _scheme(settings: Settings, live: Givers) -> Iterator[str]:
    """Of a broker that the scaler cannot read; the rest of the URL is not looked at."""
    name = settings.existing_secret
    scheme = live.read_scheme(settings.namespace, name, URL)
    if scheme not in BROKER_SCHEMES:
        yield (
            f"Secret {name} in namespace {settings.namespace}: its {URL} begins with "
            f"{scheme or 'no scheme'}, and must begin with one of {', '.join(BROKER_SCHEMES)}. "
            "The scaler could not read how much waits there."
        )


def broker_of(settings: Settings, live: Givers) -> tuple[frozenset[str], str]:
    """The keys of `existingSecret`, and the scheme of its URL; nothing where there is none to be seen."""
    name = settings.existing_secret
    if not name:
        return frozenset(), ""
    try:
        keys = live.read_keys("secret", settings.namespace, name) or frozenset()
        return keys, live.read_scheme(settings.namespace, name, URL) if URL in keys else ""
    except NotAllowed:
        return frozenset(), ""
