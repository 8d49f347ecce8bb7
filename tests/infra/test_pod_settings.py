"""Pods and doors that Kubernetes, Pod Security or the stack itself would not bear are named at preview."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.settings import Configuration, WrongSettings, load
from tests.infra.conftest import given

REFUSED = "the API server would refuse it, after half of the stack is there"
NOT_ADMITTED = "Pod Security `restricted` would admit none of the pool's pods"
FOUND_BY = "Deployments, budgets and network policies find their pods by it"
INIT = {"name": "fetch", "image": "fetch:1"}

RULES = [
    pytest.param(
        {"volumes": [{"name": "data", "hostPath": {"path": "/"}}]},
        "volumes[0].hostPath: a volume cannot be hostPath here",
        NOT_ADMITTED,
        "pulumi config rm --path 'volumes[0].hostPath'",
        id="a host's folder",
    ),
    pytest.param(
        {"volumes": [{"name": "tmp", "emptyDir": {}}]},
        "volumes[0].name: 'tmp' is the stack's own volume",
        REFUSED,
        "pulumi config set --path 'volumes[0].name' my-tmp",
        id="a volume's name that the stack has",
    ),
    pytest.param(
        {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},  # noqa: S108
        "volumeMounts[0].mountPath: /tmp is the stack's own",
        "the workers could not write to their scratch folder",
        "pulumi config set --path 'volumeMounts[0].mountPath' /data",
        id="a mount over the scratch folder",
    ),
    pytest.param(
        {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        "volumeMounts[0].name: there is no volume data among the pool's volumes",
        REFUSED,
        "pulumi config set --path 'volumeMounts[0].name' '<name of a volume>'",
        id="a mount without its volume",
    ),
    pytest.param(
        {"initContainers": [{**INIT, "name": "celery-worker"}]},
        "initContainers[0].name: 'celery-worker' is the stack's own container",
        REFUSED,
        "pulumi config set --path 'initContainers[0].name' my-celery-worker",
        id="an init container named as the worker's",
    ),
    pytest.param(
        {"initContainers": [{"name": "fetch"}]},
        "initContainers[0].image: is missing",
        REFUSED,
        "pulumi config set --path 'initContainers[0].image' '<image>'",
        id="an init container without an image",
    ),
    pytest.param(
        {"initContainers": [{**INIT, "securityContext": {"privileged": True}}]},
        "initContainers[0].securityContext.privileged: must be false, not True",
        NOT_ADMITTED,
        "pulumi config rm --path 'initContainers[0].securityContext.privileged'",
        id="a privileged init container",
    ),
    pytest.param(
        {"initContainers": [{**INIT, "securityContext": {"runAsUser": 0}}]},
        "initContainers[0].securityContext.runAsUser: must not be 0",
        NOT_ADMITTED,
        "pulumi config rm --path 'initContainers[0].securityContext.runAsUser'",
        id="an init container of root",
    ),
    pytest.param(
        {"initContainers": [{**INIT, "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]},
        "initContainers[0].securityContext.capabilities: must drop ALL and add at most NET_BIND_SERVICE",
        NOT_ADMITTED,
        "pulumi config rm --path 'initContainers[0].securityContext.capabilities'",
        id="an init container with a capability",
    ),
    pytest.param(
        {"podLabels": {"app.kubernetes.io/name": "mine"}},
        'podLabels["app.kubernetes.io/name"]: is set by the stack itself',
        FOUND_BY,
        "pulumi config rm --path 'podLabels[\"app.kubernetes.io/name\"]'",
        id="a label of the stack",
    ),
    pytest.param(
        {"podAnnotations": {"controller.kubernetes.io/pod-deletion-cost": "5"}},
        'podAnnotations["controller.kubernetes.io/pod-deletion-cost"]: is set by the stack or its scaler',
        "the scaler marks with it which worker is to leave",
        "pulumi config rm --path 'podAnnotations[\"controller.kubernetes.io/pod-deletion-cost\"]'",
        id="an annotation of the scaler",
    ),
    pytest.param(
        {"nodeSelector": {"gpu": True}},
        "nodeSelector.gpu: must be text that Kubernetes takes here, not True",
        REFUSED,
        "pulumi config rm --path nodeSelector.gpu",
        id="a label's value that is no text",
    ),
    pytest.param(
        {"tolerations": [{"key": "gpu", "operator": "In"}]},
        "tolerations[0].operator: must be Equal or Exists, not 'In'",
        REFUSED,
        "pulumi config set --path 'tolerations[0].operator' Exists",
        id="a toleration's operator",
    ),
    pytest.param(
        {"affinity": {"nodeAfinity": {}}},
        "affinity.nodeAfinity: there is no such member; there are nodeAffinity, podAffinity, podAntiAffinity",
        "nothing would read it",
        "pulumi config rm --path affinity.nodeAfinity",
        id="a mistyped affinity",
    ),
    pytest.param(
        {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}]},
        "topologySpreadConstraints[0].whenUnsatisfiable: must be DoNotSchedule or ScheduleAnyway",
        REFUSED,
        "pulumi config set --path 'topologySpreadConstraints[0].whenUnsatisfiable' ScheduleAnyway",
        id="half a spread",
    ),
    pytest.param(
        {"brokerClients": [{}]},
        "brokerClients[0]: must have a namespaceSelector, a podSelector or an ipBlock",
        "the API server would refuse the policy",
        "pulumi config rm --path 'brokerClients[0]'",
        id="a client that is nobody",
    ),
    pytest.param(
        {"workerEgress": [{"from": []}]},
        "workerEgress[0].from: there is no such member; there are to and ports",
        REFUSED,
        "pulumi config rm --path 'workerEgress[0].from'",
        id="an egress rule that is none",
    ),
    pytest.param(
        {"apiServerPorts": [70000]},
        "apiServerPorts[0]: must be a port from 1 to 65535, not 70000",
        REFUSED,
        "pulumi config set --path 'apiServerPorts[0]' 6443",
        id="a port that is none",
    ),
    pytest.param(
        {"acceptContent": [""]},
        "acceptContent[0]: must be a content type or a serializer's name, not ''",
        "the workers would stop at their start",
        "pulumi config set --path 'acceptContent[0]' json",
        id="no content type",
    ),
    pytest.param(
        {"flowerUrl": "https://me:secret@flower.example.com"},
        "flowerUrl: must be an address that begins with http:// or https://, without a user",
        "the scaler would not start",
        "pulumi config set flowerUrl 'https://<host>'",
        id="a link with a password",
    ),
    pytest.param(
        {"stackUrl": "app.pulumi.com/me/celery-fleet/dev"},
        "stackUrl: must be an address that begins with http:// or https://, without a user",
        "the scaler would not start",
        "pulumi config set stackUrl 'https://<host>'",
        id="a link without a scheme",
    ),
    pytest.param(
        {"scalerPagePrefix": "/a b"},
        "scalerPagePrefix: must be a path such as /fleet, not '/a b'",
        "the scaler would not start",
        "pulumi config set scalerPagePrefix /fleet",
        id="a prefix that is no path",
    ),
    pytest.param(
        {"beat": "true", "beatPool": "sums"},
        "beatPool: there is no pool sums; there are default",
        "nothing says which app's schedule to follow",
        "pulumi config set beatPool default",
        id="a beat of no pool",
    ),
    pytest.param(
        {"beat": "true", "image": None, "pools": {"mail": {"image": "mail:1"}}},
        "beatPool: is not given, and there is no flat image",
        "beat has nothing to run",
        "pulumi config set beatPool mail",
        id="a beat without an image",
    ),
]


@pytest.mark.parametrize(("values", "wrong", "effect", "fix"), RULES)
def test_it_is_named_with_effect_and_cure(values: dict[str, Any], wrong: str, effect: str, fix: str) -> None:
    with pytest.raises(WrongSettings) as found:
        load(Configuration(stack="dev", values=given(**values)))

    assert str(found.value) == (
        "stack dev: one setting is wrong, nothing was changed.\n"
        f"  {wrong}\n    effect: {effect}\n    fix:    {fix}"
    )


def test_a_pool_s_own_mistake_is_named_where_it_stands() -> None:
    pools = {"mail_eu": {"queues": ["mail"], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}}

    with pytest.raises(WrongSettings) as found:
        load(Configuration(stack="dev", values=given(pools=json.dumps(pools))))

    assert "pools.mail_eu.volumeMounts[0].name: there is no volume data" in str(found.value)
