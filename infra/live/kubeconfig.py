"""Which cluster is meant: kubectl's rules, as the Kubernetes provider beside this one follows them.

It owns the way from context and kubeconfig to one connection's settings: a given path or text, else
every file in KUBECONFIG merged, else ~/.kube/config, else the pod's own account. lightkube's own
search takes the pod's account first and one file only, so a CI runner inside some cluster would look
at that cluster while Pulumi deploys to another. It refuses what it cannot use, naming file and cure.

The standard library and lightkube's model of a kubeconfig; the connection itself is in `infra.live.cluster`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

DEFAULT_PATH: Final = "~/.kube/config"
KINDS: Final = ("clusters", "contexts", "users")
EXEC_API: Final = "client.authentication.k8s.io"


class NoCluster(Exception):  # noqa: N818  # the fact, not the failure
    """No usable connection settings: the message says which, and what to do."""


def settings_of(context: str, source: str) -> SingleConfig:
    """For `context` ("" is the current one), from a path or a text ("" searches). Raises NoCluster."""
    merged = _merged(source)
    if merged is None:
        try:
            return _complete(KubeConfig.from_service_account().get())
        except ConfigError as error:
            raise NoCluster(
                f"no kubeconfig: neither KUBECONFIG nor {DEFAULT_PATH} names a file that is there. "
                "Point KUBECONFIG at your cluster's file"
            ) from error
    name = context or merged.get("current-context") or ""
    known = sorted(entry["name"] for entry in merged["contexts"])
    if name not in known:
        asked = (
            f"context {name!r} is not in the kubeconfig" if name else "the kubeconfig has no current context"
        )
        raise NoCluster(
            f"{asked}; it has {', '.join(known) or 'none'}. "
            "Name one of them: pulumi config set kubernetes:context NAME"
        )
    try:
        return _complete(KubeConfig.from_dict(merged).get(name))
    except (ConfigError, KeyError, ValueError, TypeError) as error:
        raise NoCluster(f"context {name!r} of the kubeconfig cannot be used: {error}") from error


def _merged(source: str) -> dict[str, Any] | None:
    """All files as one, the first mention of a name winning; None where there is no file."""
    if source.lstrip().startswith("{") or "\n" in source.strip():
        documents = [_parsed(source, Path.cwd(), "kubernetes:kubeconfig")]
    else:
        documents = [
            _parsed(path.read_text(), path.parent, str(path)) for path in _paths(source) if path.is_file()
        ]
        if not documents and source:
            raise NoCluster(f"the kubeconfig {source} is not there. Correct kubernetes:kubeconfig")
    if not documents:
        return None
    merged: dict[str, Any] = {
        "current-context": next((d["current-context"] for d in documents if d.get("current-context")), None)
    }
    for kind in KINDS:
        entries: dict[str, Any] = {}
        for document in documents:
            for entry in document[kind]:
                entries.setdefault(entry["name"], entry)
        merged[kind] = list(entries.values())
    return merged


def _paths(source: str) -> Iterable[Path]:
    named = [source] if source else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return [Path(name).expanduser() for name in named if name] or [Path(DEFAULT_PATH).expanduser()]


def _parsed(text: str, folder: Path, origin: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text) or {}
        for kind, key, files in (
            ("clusters", "cluster", ("certificate-authority",)),
            ("users", "user", ("client-certificate", "client-key", "tokenFile")),
        ):
            for entry in document.get(kind) or []:
                settings = entry[key] = entry.get(key) or {}
                for file in files:
                    if settings.get(file):  # relative to the file that says so
                        settings[file] = str(folder / settings[file])
                if settings.get("exec"):
                    _modernise(settings["exec"])
        return {**document, **{kind: [*(document.get(kind) or [])] for kind in KINDS}}
    except (yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise NoCluster(f"{origin} is no kubeconfig: {error}") from error


def _modernise(plugin: dict[str, Any]) -> None:
    """lightkube 1.0.1 knows the plugin protocol's v1 by its beta name only and tells the plugin nothing.

    The answer's `.status.token` is the same in both; a plugin refuses an answer's version other than
    that of KUBERNETES_EXEC_INFO, so it is given its own.
    """
    version = plugin.get("apiVersion", "")
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = list(plugin.get("env") or [])
    plugin["env"] = [*environment, {"name": "KUBERNETES_EXEC_INFO", "value": json.dumps(info)}]
    if version == f"{EXEC_API}/v1":
        plugin["apiVersion"] = f"{EXEC_API}/v1beta1"


def _complete(settings: SingleConfig | None) -> SingleConfig:
    if settings is None:
        raise NoCluster("the kubeconfig has no current context")
    # A context without a user is anonymous for kubectl, an AssertionError for lightkube.
    return settings if settings.user is not None else settings._replace(user=User())
