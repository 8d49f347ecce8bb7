"""What stops a deployment before its first write, with the cure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.live import first_look
from infra.live.cluster import Cluster, NotAllowed
from infra.live.first_look import (
    MAY_GRANT,
    SCALERS_RIGHTS,
    CannotStart,
    FirstLook,
    needed_rights,
    refusals_of,
    warnings_of,
)
from infra.live.sightings import Autoscaler, Autoscalers, Right
from infra.recording import record
from infra.settings import Settings
from scaler.contract import KIND, PLURAL, RBAC_RULES, SCALER_NAME
from tests.infra.conftest import settings
from tests.recorded_cluster import NAMESPACE, RecordedCluster

HIDDEN: Mapping[str, str] = {"hidden": "may not be looked at"}


@dataclass(slots=True, kw_only=True)
class FakeCluster:
    """A cluster as far as the first look asks it."""

    description: str = "the cluster (context here)"
    stack: str = ""
    namespace: Mapping[str, str] | None = None
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    denied: frozenset[Right] = frozenset()
    asked: list[Right] = field(default_factory=list)

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

    def read_denied(self, namespace: str, rights: Iterable[Right]) -> list[str]:
        assert namespace
        asked = list(rights)
        self.asked += asked
        return [str(right) for right in asked if right in self.denied]


def refusals(live: FakeCluster, stack: str = "dev", **overrides: str) -> list[str]:
    return list(refusals_of(settings(stack, overrides), live, Autoscalers()))


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
    live = FakeCluster(
        denied=frozenset({Right("create", "apps", "deployments"), Right("create", "", "namespaces")})
    )

    assert refusals(live) == [
        (
            "the cluster (context here) does not let you create deployments.apps, create namespaces in "
            "namespace celery-fleet-dev. Ask for these rights, or choose another context: "
            "pulumi config set kubernetes:context NAME"
        )
    ]


def test_who_may_not_grant_must_hold_what_the_scalers_role_grants() -> None:
    """`admin` of a namespace, who may make Roles and holds no right on events or on leases, for instance."""
    lacks = {Right("create", "", "pods/eviction"), Right("get", "coordination.k8s.io", "leases", SCALER_NAME)}
    live = FakeCluster(denied=frozenset({*MAY_GRANT, *lacks}))

    assert refusals(live) == [
        (
            "the cluster (context here) does not let you create pods/eviction, get "
            "leases.coordination.k8s.io celery-fleet-scaler in namespace celery-fleet-dev, and who makes the "
            "scaler's Role must hold what it grants. Ask for these rights, or choose another context: "
            "pulumi config set kubernetes:context NAME"
        )
    ]


def test_who_may_grant_need_not_hold_it() -> None:
    live = FakeCluster(denied=frozenset(SCALERS_RIGHTS))

    assert refusals(live) == []


def test_the_scalers_rights_are_those_of_its_role() -> None:
    granted = {
        Right(verb, group, resource, name)
        for rule in RBAC_RULES
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }

    assert set(SCALERS_RIGHTS) == granted
    assert len(SCALERS_RIGHTS) == len(granted)


THERE = {"namespace": "shop", "createNamespace": "false"}
EXTERNAL = {
    **THERE,
    "broker": "external",
    "existingSecret": "mq",
    "brokerCa": "configmap/ca/bundle.pem",
    "resultBackend": "external",
    "resultBackendSecret": "db",
}
EVERYTHING = {"sampleApp": "true", "beat": "true", "beatSchedulePersistence": '{"enabled": true}'}
LEAST = {
    "flower": "false",
    "sampleApp": "false",
    "networkPolicies": "false",
    "redisPersistence": '{"enabled": false}',
    "createNamespace": "false",
}


@pytest.mark.parametrize(
    ("stack", "overrides"),
    [
        pytest.param("local", {}, id="local"),
        pytest.param("dev", {}, id="dev"),
        pytest.param("prod", {}, id="prod"),
        pytest.param("local", EVERYTHING, id="with everything"),
        pytest.param("dev", LEAST, id="with nothing that can be left out"),
        pytest.param("dev", {"broker": "rabbitmq", "resultBackend": "postgresql"}, id="other servers"),
        pytest.param("dev", EXTERNAL, id="a broker of somebody else's: neither volume nor start script"),
    ],
)
def test_the_right_to_make_each_declared_kind_is_asked_for_and_no_other(
    stack: str, overrides: dict[str, str]
) -> None:
    chosen = settings(stack, overrides)
    made = {
        right_to_make(resource.type, resource.inputs)
        for resource in record(chosen, password="x")
        if resource.is_kubernetes_object
    }

    assert set(needed_rights(chosen)) == made


def right_to_make(type_: str, inputs: Mapping[str, Any]) -> Right:
    group = inputs["apiVersion"].rpartition("/")[0]
    kind = inputs["kind"].lower()
    plural = {"networkpolicy": "networkpolicies", KIND.lower(): PLURAL}.get(kind, f"{kind}s")
    return Right("patch" if type_.endswith("Patch") else "create", group, plural)


def test_a_stack_that_is_there_is_not_asked_for_its_rights_again() -> None:
    """A look costs some ten requests more on the first `up`."""
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


@pytest.mark.parametrize(("mode", "refused"), [("active", True), ("shadow", False)])
def test_another_autoscaler_of_a_pool_is_named_before_anything_is_made(mode: str, refused: bool) -> None:
    mine = Autoscaler("ScaledObject", "mine", "default-celery-worker")
    other = Autoscaler("ScaledObject", "theirs", "shop")
    chosen = settings("dev", {"namespace": "shop", "createNamespace": "false", "mode": mode})

    found = list(refusals_of(chosen, FakeCluster(namespace={}), Autoscalers((mine, other))))

    reason = (
        "ScaledObject mine scales Deployment default-celery-worker too: two writers of replicas undo each "
        "other and kill running tasks. Remove it: kubectl delete scaledobject mine -n shop, or watch beside "
        "it: set the pool's `mode` to shadow"
    )
    assert found == ([reason] if refused else [])


@pytest.mark.parametrize(
    ("unseen", "mode", "said"),
    [
        ((), "active", ""),
        (("ScaledObject",), "active", "you may not list ScaledObjects in namespace celery-fleet-dev, so "),
        (
            ("ScaledObject", "HorizontalPodAutoscaler"),
            "active",
            "you may not list ScaledObjects and HorizontalPodAutoscalers in namespace celery-fleet-dev, so ",
        ),
        (("ScaledObject",), "shadow", ""),
    ],
)
def test_autoscalers_that_may_not_be_seen_are_one_warning(
    unseen: tuple[str, ...], mode: str, said: str
) -> None:
    warnings = list(warnings_of(settings("dev", {"mode": mode}), Autoscalers(unseen=unseen)))

    assert len(warnings) == bool(said)
    assert "".join(warnings).startswith(said)


@pytest.mark.parametrize(
    ("forbidden", "seen"),
    [
        ((), Autoscalers((Autoscaler("HorizontalPodAutoscaler", "mine", "web"),))),
        (("/horizontalpodautoscalers",), Autoscalers(unseen=("HorizontalPodAutoscaler",))),
        (
            ("/scaledobjects",),
            Autoscalers((Autoscaler("HorizontalPodAutoscaler", "mine", "web"),), ("ScaledObject",)),
        ),
    ],
)
def test_a_cluster_says_which_autoscalers_it_did_not_show(
    cluster: RecordedCluster, forbidden: tuple[str, ...], seen: Autoscalers
) -> None:
    cluster.autoscalers["mine"] = "web"
    cluster.forbidden = forbidden

    with Cluster("", str(cluster.kubeconfig)) as live:
        assert live.read_autoscalers(NAMESPACE) == seen


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
    seen = first_look.seen_by(declared, FakeCluster(secrets=REACHED), Autoscalers())
    unseen = first_look.seen_by(declared, FakeCluster(secrets={"mq": HIDDEN}), Autoscalers())

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
