"""Which cluster is meant, over files as kubectl would find them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.live.kubeconfig import NoCluster, settings_of


def config(*contexts: str, current: str = "", user: dict[str, Any] | None = None) -> str:
    """A kubeconfig in which every name of a context is the name of its cluster and user, too."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": current,
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in contexts],
            "clusters": [{"name": name, "cluster": {"server": f"https://{name}"}} for name in contexts],
            "users": [{"name": name, "user": user or {"token": name}} for name in contexts],
        }
    )


@pytest.fixture(autouse=True)
def no_cluster_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBECONFIG", raising=False)


def test_the_current_context_is_meant_where_none_is_named() -> None:
    settings = settings_of("", config("dev", "prod", current="prod"))

    assert (settings.context_name, settings.cluster.server) == ("prod", "https://prod")


def test_a_named_context_wins() -> None:
    assert settings_of("dev", config("dev", "prod", current="prod")).cluster.server == "https://dev"


def test_all_files_of_kubeconfig_are_one_and_the_first_mention_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """lightkube's own search would take the whole list for one file's name."""
    (tmp_path / "a").write_text(config("dev", current="dev"))
    (tmp_path / "b").write_text(config("dev", "prod", current="prod", user={"token": "second"}))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))

    assert settings_of("", "").context_name == "dev"
    assert settings_of("dev", "").user.token == "dev"  # type: ignore[union-attr]
    assert settings_of("prod", "").user.token == "second"  # type: ignore[union-attr]


def test_the_default_path_is_looked_at_last(tmp_path: Path) -> None:
    (tmp_path / "home" / ".kube").mkdir(parents=True)
    (tmp_path / "home" / ".kube" / "config").write_text(config("home", current="home"))

    assert settings_of("", "").cluster.server == "https://home"


def test_a_relative_certificate_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        config("dev", current="dev", user={"client-certificate": "me.crt", "client-key": "me.key"})
    )

    user = settings_of("", str(tmp_path / "config")).user

    assert user is not None
    assert (user.client_cert, user.client_key) == (str(tmp_path / "me.crt"), str(tmp_path / "me.key"))


def test_a_login_program_of_the_v1_protocol_is_used_and_told_its_version() -> None:
    """lightkube 1.0.1 knows the beta names only."""
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "login", "env": None}

    user = settings_of("", config("dev", current="dev", user={"exec": plugin})).user

    assert user is not None
    assert user.exec is not None
    assert user.exec.apiVersion == "client.authentication.k8s.io/v1beta1"
    (told,) = user.exec.env or []
    assert told.name == "KUBERNETES_EXEC_INFO"
    assert json.loads(told.value)["apiVersion"] == "client.authentication.k8s.io/v1"


@pytest.mark.parametrize(
    ("context", "source", "message"),
    [
        pytest.param("", "", "no kubeconfig: neither KUBECONFIG nor", id="nothing anywhere"),
        pytest.param("", "/not/there", "the kubeconfig /not/there is not there", id="a path to nothing"),
        pytest.param(
            "prod",
            config("dev", "test"),
            "context 'prod' is not in the kubeconfig; it has dev, test. Name one of them: "
            "pulumi config set kubernetes:context NAME",
            id="an unknown context",
        ),
        pytest.param("", config("dev"), "the kubeconfig has no current context; it has dev", id="no context"),
        pytest.param("", "{no: [yaml", "kubernetes:kubeconfig is no kubeconfig", id="no YAML"),
        pytest.param("", "{contexts: 1}", "kubernetes:kubeconfig is no kubeconfig", id="no kubeconfig"),
        pytest.param(
            "dev",
            "{contexts: [{name: dev, context: {cluster: gone}}]}",
            "context 'dev' of the kubeconfig cannot be used",
            id="a context of a cluster that is not there",
        ),
    ],
)
def test_what_cannot_be_used_is_named(context: str, source: str, message: str) -> None:
    with pytest.raises(NoCluster) as raised:
        settings_of(context, source)

    assert message in str(raised.value)
