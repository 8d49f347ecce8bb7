"""What stops a deployment before its first write, with the cure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.live import first_look
from infra.live.cluster import NotAllowed
from infra.live.first_look import CannotStart, FirstLook, refusals_of
from infra.live.preflight import NEEDED_RIGHTS
from infra.recording import record
from infra.settings import Settings
from tests.infra.conftest import settings

HIDDEN: Mapping[str, str] = {"hidden": "may not be looked at"}


@dataclass(slots=True, kw_only=True)
class FakeCluster:
    """A cluster as far as the first look asks it."""

    description: str = "the cluster (context here)"
    stack: str = ""
    namespace: Mapping[str, str] | None = None
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def uid(self) -> str:
        return "the-uid"

    def read_schema_revision(self) -> int | None:
        return None

    def read_stack(self, namespace: str) -> str:
        assert namespace
        return self.stack

    def read_namespace_labels(self, name: str) -> Mapping[str, str] | None:
        assert name
        return self.namespace

    def read_keys(self, kind: str, namespace: str, name: str) -> frozenset[str] | None:
        assert namespace
        found = (self.secrets if kind == "secret" else self.config_maps).get(name)
        if found is HIDDEN:
            raise NotAllowed("may not")
        return None if found is None else frozenset(found)

    def read_scheme(self, namespace: str, name: str, key: str) -> str:
        assert namespace
        return self.secrets[name][key].partition("://")[0]

    def read_denied(self, namespace: str, rights: Iterable[tuple[str, str, str]]) -> list[str]:
        assert namespace
        self.asked += rights
        return list(self.denied)


def refusals(live: FakeCluster, stack: str = "dev", **overrides: str) -> list[str]:
    return list(refusals_of(settings(stack, overrides), live))


OURS = {first_look.STACK_LABEL: "dev"}


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(FakeCluster(), id="nothing is there yet"),
        pytest.param(FakeCluster(namespace=OURS), id="an earlier up stopped after the namespace"),
        pytest.param(FakeCluster(namespace=OURS, stack="dev"), id="the stack is there"),
    ],
)
def test_a_stack_of_one_s_own_can_be_deployed(live: FakeCluster) -> None:
    assert refusals(live) == []


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(FakeCluster(namespace={first_look.STACK_LABEL: "prod"}), id="by its namespace"),
        pytest.param(FakeCluster(namespace={}, stack="prod"), id="by its scaler"),
    ],
)
def test_two_stacks_in_one_namespace_are_refused(live: FakeCluster) -> None:
    (refusal,) = refusals(live, namespace="shared")

    assert refusal == (
        "namespace shared is stack prod's: two stacks in one namespace would overwrite each other's objects, "
        "and destroying one would take the other with it. Choose another: pulumi config set namespace NAME"
    )


def test_a_namespace_that_somebody_else_made_is_not_taken_over() -> None:
    (refusal,) = refusals(FakeCluster(namespace={"team": "shop"}), namespace="shop")

    assert refusal == (
        "namespace shop is there and no stack made it: creating it would fail, and destroying the stack "
        "would remove what else is in it. Use it as it is: pulumi config set createNamespace false, or "
        "choose another: pulumi config set namespace NAME"
    )


def test_a_namespace_that_should_be_there_is_asked_for() -> None:
    (refusal,) = refusals(FakeCluster(), namespace="shop", createNamespace="false")

    assert refusal == (
        "namespace shop is not there, and createNamespace is false. Make it (kubectl create namespace shop), "
        "or: pulumi config set createNamespace true"
    )


def test_rights_that_lack_are_named() -> None:
    live = FakeCluster(denied=("create deployments.apps", "create namespaces"))

    assert refusals(live) == [
        (
            "the cluster (context here) does not let you create deployments.apps, create namespaces in "
            "namespace celery-fleet-dev. Ask for these rights, or choose another context: "
            "pulumi config set kubernetes:context NAME"
        )
    ]
    assert set(live.asked) == {
        *NEEDED_RIGHTS,
        ("create", "", "namespaces"),
        ("create", "", "persistentvolumeclaims"),
        ("create", "", "configmaps"),
    }


def test_rights_that_the_stack_does_not_need_are_not_asked_for() -> None:
    """A broker of somebody else's needs neither a volume nor a start script."""
    live = FakeCluster(namespace={}, secrets=REACHED, config_maps=TRUSTED)

    assert refusals(live, **EXTERNAL) == []
    assert set(live.asked) == set(NEEDED_RIGHTS)


def test_a_stack_that_is_there_is_not_asked_for_its_rights_again() -> None:
    """A look costs some ten requests on the first `up` and five on any other."""
    live = FakeCluster(namespace=OURS, stack="dev")

    assert refusals(live) == []
    assert live.asked == []


def test_a_secret_of_the_user_has_to_be_there_with_its_keys() -> None:
    live = FakeCluster(namespace={}, secrets={"flower": {"password": "pw"}})

    found = refusals(
        live,
        namespace="shop",
        createNamespace="false",
        existingSecret="broker",
        flowerAuthSecret="flower",
    )

    assert found == [
        (
            "Secret broker is not in namespace shop. Make it: kubectl create secret generic broker -n shop "
            "--from-literal=password=... --from-literal=url=..."
        ),
        "Secret flower in namespace shop lacks basic-auth. Add it.",
    ]


THERE = {"namespace": "shop", "createNamespace": "false"}
EXTERNAL = {
    **THERE,
    "broker": "external",
    "existingSecret": "mq",
    "brokerCa": "configmap/ca/bundle.pem",
    "resultBackend": "external",
    "resultBackendSecret": "db",
}
REACHED: Mapping[str, Mapping[str, str]] = {
    "mq": {"url": "amqps://u:p@h/v", "scaler-url": "amqps://s:p@h/v", "management-url": "https://s:p@h/v"},
    "db": {"url": "db+postgresql://u:p@h/d"},
}
TRUSTED: Mapping[str, Mapping[str, str]] = {"ca": {"bundle.pem": "-----BEGIN"}}


@pytest.mark.parametrize(
    ("secrets", "config_maps", "expected"),
    [
        pytest.param(REACHED, TRUSTED, [], id="all of it is there"),
        pytest.param(
            {},
            {},
            [
                (
                    "Secret mq is not in namespace shop. Make it: kubectl create secret generic mq -n shop "
                    "--from-literal=url=..."
                ),
                (
                    "Secret db is not in namespace shop. Make it: kubectl create secret generic db -n shop "
                    "--from-literal=url=..."
                ),
                (
                    "ConfigMap ca is not in namespace shop. Make it: kubectl create configmap ca -n shop "
                    "--from-file=bundle.pem=..."
                ),
            ],
            id="nothing is there",
        ),
        pytest.param(
            {"mq": {"password": "pw"}, "db": {"url": "db+postgresql://h/d"}},
            {"ca": {"ca.crt": "-----BEGIN"}},
            [
                "Secret mq in namespace shop lacks url. Add it.",
                "ConfigMap ca in namespace shop lacks bundle.pem. Add it.",
            ],
            id="under other keys",
        ),
        pytest.param(
            {**REACHED, "mq": {"url": "kafka://u:s3cret-marker@h"}},
            TRUSTED,
            [
                (
                    "Secret mq in namespace shop: its url begins with kafka, and must begin with one of "
                    "redis, rediss, sentinel, amqp, amqps. The scaler could not read how much waits there."
                )
            ],
            id="a broker that is none",
        ),
        pytest.param({"mq": HIDDEN, "db": HIDDEN}, {"ca": HIDDEN}, [], id="what may not be seen is not said"),
    ],
)
def test_what_the_user_makes_for_an_external_broker(
    secrets: Mapping[str, Mapping[str, str]],
    config_maps: Mapping[str, Mapping[str, str]],
    expected: list[str],
) -> None:
    live = FakeCluster(namespace={}, secrets=secrets, config_maps=config_maps)

    assert refusals(live, **EXTERNAL) == expected


def test_the_scaler_gets_the_credentials_that_the_secret_has_for_it() -> None:
    """And where it may not be looked at, those of everybody."""
    declared = settings("dev", EXTERNAL)
    seen = first_look.seen_by(declared, FakeCluster(secrets=REACHED))
    unseen = first_look.seen_by(declared, FakeCluster(secrets={"mq": HIDDEN}))

    assert (seen.broker_keys, seen.broker_scheme) == (frozenset(REACHED["mq"]), "amqps")
    assert (unseen.broker_keys, unseen.broker_scheme) == (frozenset(), "")
    assert files(declared, seen) == {"url": "scaler-url", "management-url": "management-url"}
    assert files(declared, unseen) == {"url": "url", "management-url": "management-url"}


def files(declared: Settings, seen: FirstLook) -> dict[str, str]:
    """Of the scaler's broker, by the Secret's keys."""
    (scaler,) = (
        found.inputs["spec"]["template"]["spec"]
        for found in record(declared, seen=seen)
        if found.name == "scaler-deployment"
    )
    (sources,) = (volume["projected"]["sources"] for volume in scaler["volumes"] if "projected" in volume)
    return {item["path"]: item["key"] for source in sources for item in source["secret"]["items"]}


def test_no_kubeconfig_is_one_plain_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    with pytest.raises(CannotStart) as stopped:
        first_look.look(settings("dev"))

    assert str(stopped.value).startswith(
        "stack dev cannot be deployed, nothing was changed.\n  no kubeconfig: "
    )


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {}}]\n"
        "contexts: [{name: gone, context: {cluster: c, user: u}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    with pytest.raises(CannotStart, match=r"http://127\.0\.0\.1:9 \(context gone\) cannot be reached"):
        first_look.look(settings("dev"))


@pytest.mark.cluster
def test_a_real_cluster_is_looked_at(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    seen = first_look.look(settings("dev", {"namespace": "nobody-made-this-one"}))

    assert isinstance(seen, FirstLook)
    assert len(seen.cluster_uid) == 36


@pytest.mark.cluster
def test_a_real_namespace_of_somebody_else_is_refused(
    kubeconfig: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    with pytest.raises(CannotStart, match=f"namespace {namespace} is there and no stack made it"):
        first_look.look(settings("dev", {"namespace": namespace}))
