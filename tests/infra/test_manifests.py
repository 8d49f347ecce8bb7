"""The rendered manifests are the program's objects, without what has no place in a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from infra import manifests
from infra.components.fleet_objects import FIELD_MANAGER
from infra.recording import Recorded, record
from infra.settings import WrongSettings
from scaler import contract
from tests.infra.conftest import PASSWORD, settings

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(program: list[Recorded]) -> list[Manifest]:
    return manifests.manifests(program)


def key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def test_they_are_the_objects_of_the_program(program: list[Recorded], rendered: list[Manifest]) -> None:
    """Nothing else, and nothing less but the Secrets."""
    declared = {
        (resource.inputs["kind"], resource.inputs["metadata"]["name"])
        for resource in program
        if resource.is_kubernetes_object
    }

    assert {key(manifest) for manifest in rendered} == {name for name in declared if name[0] != "Secret"}


def test_each_is_what_the_program_declares_but_for_what_is_left_out(
    program: list[Recorded], rendered: list[Manifest]
) -> None:
    by_key = {key(manifest): manifest for manifest in rendered}
    for resource in program:
        if not resource.is_kubernetes_object or resource.inputs["kind"] == "Secret":
            continue
        manifest = by_key[resource.inputs["kind"], resource.inputs["metadata"]["name"]]
        declared = json.loads(json.dumps(resource.inputs))
        declared["metadata"].get("annotations", {}).pop("pulumi.com/waitFor", None)
        if not declared["metadata"].get("annotations"):
            declared["metadata"].pop("annotations", None)
        if resource.ignore_changes:
            declared["spec"].pop("replicas")
        if declared["kind"] == "Deployment":
            declared["spec"]["template"]["metadata"].pop("annotations", None)

        assert manifest == declared


def test_no_secret_is_in_the_text(stack: str) -> None:
    text = manifests.render(settings(stack))

    assert PASSWORD not in text
    assert "Secret" not in [document["kind"] for document in yaml.safe_load_all(text)]


def test_the_text_is_what_was_rendered_and_always_the_same(stack: str) -> None:
    text = manifests.render(settings(stack))

    assert list(yaml.safe_load_all(text)) == manifests.manifests(record(settings(stack)))
    assert text == manifests.render(settings(stack))


def test_no_worker_replicas(rendered: list[Manifest]) -> None:
    """Applying again must not undo the scaling."""
    for manifest in rendered:
        if contract.POOL_LABEL in manifest["metadata"].get("labels", {}) and manifest["kind"] == "Deployment":
            assert "replicas" not in manifest["spec"]


def test_nothing_of_pulumi_is_left_but_on_the_definition(rendered: list[Manifest]) -> None:
    """All stacks of a cluster share that one: those of Pulumi would list what is taken off as a change."""
    (definition,) = (one for one in rendered if one["kind"] == "CustomResourceDefinition")
    rest = [one for one in rendered if one is not definition]

    assert definition["metadata"]["annotations"]["pulumi.com/patchFieldManager"] == FIELD_MANAGER
    assert "pulumi" not in json.dumps(rest)


def test_what_others_need_comes_first(rendered: list[Manifest]) -> None:
    kinds = [manifest["kind"] for manifest in rendered]

    assert kinds == sorted(kinds, key=manifests.ORDER.index)
    assert kinds[:2] == ["Namespace", "CustomResourceDefinition"]


def test_the_first_lines_name_the_secrets_to_make() -> None:
    lines = manifests.render(settings("local")).splitlines()

    assert lines[5:8] == [
        "# These Secrets are not among them; first: kubectl create namespace celery-fleet-local",
        (
            "#   kubectl create secret generic celery-broker -n celery-fleet-local "
            "--from-literal=password='<password>' "
            "--from-literal=url='redis://:<password>@redis.celery-fleet-local.svc:6379/0' "
            "--from-literal=scaler-password='<scaler-password>' "
            "--from-literal=scaler-url="
            "'redis://celery-scaler:<scaler-password>@redis.celery-fleet-local.svc:6379/0'"
        ),
        (
            "#   kubectl create secret generic flower-auth -n celery-fleet-local "
            "--from-literal=basic-auth='admin:<password>'"
        ),
    ]


@pytest.mark.parametrize(
    ("made", "rest"),
    [
        ("true", "kubectl delete namespace shop"),
        ("false", f"kubectl delete {manifests.EACH} -n shop -l app.kubernetes.io/instance=local"),
    ],
)
def test_the_first_lines_say_how_it_comes_down(made: str, rest: str) -> None:
    chosen = settings("local", {"namespace": "shop", "createNamespace": made})
    lines = [line for line in manifests.render(chosen).splitlines() if line.startswith("#   kubectl")]

    assert lines[-4:] == [
        "#   kubectl scale deployment -n shop -l 'app.kubernetes.io/component in (beat,sample)' --replicas=0",
        "#   kubectl exec -n shop deployment/celery-fleet-scaler -- python3 -m scaler drain",
        "#   kubectl delete deployment -n shop -l app.kubernetes.io/component=worker --cascade=foreground",
        f"#   {rest}",
    ]


def test_what_comes_down_by_label_is_all_but_what_others_own() -> None:
    """Beside the Secrets, which somebody made by hand."""
    short = {
        "Celery": "cel",
        "Deployment": "deploy",
        "Service": "svc",
        "ConfigMap": "cm",
        "PodDisruptionBudget": "pdb",
        "NetworkPolicy": "netpol",
        "RoleBinding": "rolebinding",
        "Role": "role",
        "ServiceAccount": "sa",
        "PersistentVolumeClaim": "pvc",
    }
    chosen = settings("dev", {"beat": "true", "createNamespace": "false"})
    made = [m for m in manifests.manifests(record(chosen)) if m["kind"] != "CustomResourceDefinition"]

    assert {short[manifest["kind"]] for manifest in made} == set(manifests.EACH.split(","))
    for manifest in made:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "dev"


def test_the_secrets_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert manifests.main(["--stack", "local", "--secrets"]) == 0

    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "celery-broker",
            "namespace": "celery-fleet-local",
            "keys": {
                "password": "<password>",
                "url": "redis://:<password>@redis.celery-fleet-local.svc:6379/0",
                "scaler-password": "<scaler-password>",
                "scaler-url": "redis://celery-scaler:<scaler-password>@redis.celery-fleet-local.svc:6379/0",
            },
        },
        {
            "name": "flower-auth",
            "namespace": "celery-fleet-local",
            "keys": {"basic-auth": "admin:<password>"},
        },
    ]


def test_other_values_can_be_set_for_one_rendering(capsys: pytest.CaptureFixture[str]) -> None:
    assert manifests.main(["--stack", "local", "--set", "maxReplicas=9", "--set", "namespace=other"]) == 0

    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    celery = next(document for document in documents if document["kind"] == "Celery")
    assert celery["metadata"]["namespace"] == "other"
    assert celery["spec"]["scaleTargetRef"][0]["maxReplicas"] == 9


def test_wrong_settings_render_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert manifests.main(["--stack", "local", "--set", "maxReplicas=1"]) == 1

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "minReplicas must not be greater than maxReplicas (2 > 1)" in printed.err


def test_a_stack_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(WrongSettings, match=r"there is no stack nope: .* There are: dev, local, prod\."):
        manifests.configuration("nope", {})


def test_an_encrypted_value_of_a_stack_file_stays_encrypted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the engine could decrypt it, and only a Secret would show it."""
    text = "config:\n  celery-fleet:image: shop:1\n  celery-fleet:redisPassword:\n    secure: v1:abc\n"
    (tmp_path / "Pulumi.mine.yaml").write_text(text)
    monkeypatch.setattr(manifests, "STACKS", tmp_path)

    found = manifests.configuration("mine", {})

    assert found.values == {"celery-fleet:image": "shop:1"}
    assert found.secret_keys == {"celery-fleet:redisPassword"}
