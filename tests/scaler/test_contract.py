"""A stored object becomes a policy, or one sentence about what is wrong with it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scaler import contract
from scaler.contract import (
    Behavior,
    InvalidSpec,
    Mode,
    Policy,
    ScalingRules,
    SelectPolicy,
    StepLimit,
    StepType,
    policy_of,
    queues_of,
)
from tests.scaler.samples import spec


def test_full_spec_is_read_whole() -> None:
    """Every field that the scaler acts on arrives in the policy."""
    full = spec(
        name="adders",
        paused=True,
        mode="shadow",
        drainSeconds=900,
        behavior={
            "scaleUp": {
                "stabilizationWindowSeconds": 5,
                "selectPolicy": "Min",
                "tolerance": 0.2,
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}],
            },
            "scaleDown": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]},
        },
    )
    full["workerSpec"]["queues"] = "sums, mails"

    assert policy_of(full) == Policy(
        deployment="adders",
        queues=("sums", "mails"),
        min_replicas=2,
        max_replicas=10,
        average_value=100,
        concurrency=2,
        paused=True,
        mode=Mode.SHADOW,
        drain_seconds=900,
        image="sums:1",
        behavior=Behavior(
            scale_up=ScalingRules(
                stabilization_seconds=5,
                select_policy=SelectPolicy.MIN,
                tolerance=0.2,
                limits=(StepLimit(type=StepType.PODS, value=4, period_seconds=15),),
            ),
            scale_down=ScalingRules(
                stabilization_seconds=60,
                limits=(StepLimit(type=StepType.PERCENT, value=50, period_seconds=60),),
            ),
        ),
    )


def test_least_spec_gets_the_defaults() -> None:
    """An object of the replaced operator, with none of the added fields, still makes a policy."""
    least = {"common": {"appName": "sums"}, "scaleTargetRef": [{"kind": "worker"}]}

    assert policy_of(least) == Policy(
        deployment="sums-celery-worker",
        queues=("celery",),
        min_replicas=1,
        max_replicas=10,
        average_value=100,
    )


WRONG_TARGETS = [
    pytest.param({"minReplicas": 5, "maxReplicas": 3}, "(5 > 3)", id="minimum above maximum"),
    pytest.param({"minReplicas": -1}, "minReplicas", id="negative minimum"),
    pytest.param({"minReplicas": "2"}, "minReplicas", id="minimum as text"),
    pytest.param({"minReplicas": True}, "minReplicas", id="a truth value is no number"),
    pytest.param({"maxReplicas": 0, "minReplicas": 0}, "maxReplicas", id="maximum of nothing"),
    pytest.param({"maxReplicas": 10**12}, "maxReplicas", id="maximum beyond any cluster"),
    pytest.param({"maxReplicas": 2.5}, "maxReplicas", id="half a worker"),
    pytest.param({"drainSeconds": 0}, "drainSeconds", id="a drain with no time"),
    pytest.param({"drainSeconds": 10**6}, "drainSeconds", id="a drain of more than a week"),
    pytest.param({"mode": "off"}, "mode must be one of active, shadow", id="a mode that is not known"),
    pytest.param({"mode": ["shadow"]}, "mode must be one of", id="a mode that is a list"),
    pytest.param({"kind": "flower"}, "kind must be worker", id="a target that is no worker"),
    pytest.param({"metrics": [{"name": "cpu"}]}, "message_queue", id="a metric that is not known"),
    pytest.param({"metrics": "message_queue"}, "metrics must be a list", id="metrics as text"),
    pytest.param(
        {"metrics": [{"name": "message_queue", "target": {"averageValue": 0}}]},
        "averageValue",
        id="a worker meant for no messages",
    ),
    pytest.param({"behavior": []}, "behavior must be an object", id="behavior as a list"),
    pytest.param({"behavior": {"scaleUp": {"tolerance": 2}}}, "tolerance", id="tolerance above one"),
    pytest.param({"behavior": {"scaleUp": {"tolerance": "x"}}}, "behavior", id="tolerance as a word"),
    pytest.param({"behavior": {"scaleUp": {"selectPolicy": "Most"}}}, "Most", id="unknown select policy"),
    pytest.param({"behavior": {"scaleUp": {"policies": [{}]}}}, "type", id="a step limit without a type"),
    pytest.param(
        {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 0}]}}},
        "periodSeconds",
        id="a step limit over no time",
    ),
    pytest.param(
        {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601}}},
        "stabilizationWindowSeconds",
        id="a calm above an hour",
    ),
]


@pytest.mark.parametrize(("target", "words"), WRONG_TARGETS)
def test_wrong_target_is_named(target: dict[str, Any], words: str) -> None:
    """What no policy can be made of is refused with the field's name."""
    with pytest.raises(InvalidSpec, match=re.escape(words)):
        policy_of(spec(**target))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param({}, "exactly one entry", id="an empty spec"),
        pytest.param({"scaleTargetRef": [{}, {}]}, "exactly one entry", id="two targets"),
        pytest.param({"scaleTargetRef": ["worker"]}, "exactly one entry", id="a target that is a word"),
        pytest.param({"scaleTargetRef": [{"kind": "worker"}]}, "appName", id="no app name"),
        pytest.param({"common": "sums"}, "common must be an object", id="common as a word"),
    ],
)
def test_wrong_spec_is_named(wrong: dict[str, Any], words: str) -> None:
    """Whatever an older schema let in ends in a sentence, not in another exception."""
    with pytest.raises(InvalidSpec, match=words):
        policy_of(wrong)


@pytest.mark.parametrize(
    ("text", "queues"),
    [
        pytest.param("sums", ("sums",), id="one queue"),
        pytest.param("sums,mails", ("sums", "mails"), id="two queues in their order"),
        pytest.param(" sums , mails ", ("sums", "mails"), id="blanks around names do not count"),
        pytest.param("höhe,数", ("höhe", "数"), id="names beyond ASCII"),
    ],
)
def test_queues_are_split_as_celery_does(text: str, queues: tuple[str, ...]) -> None:
    """`-Q a,b` and `queues: a,b` mean the same."""
    assert queues_of(text) == queues


@pytest.mark.parametrize("text", ["", " ", "a,", ",a", "a,,b", "a,a", "a, a", None, 7, ["a"], "a" * 5000])
def test_queues_that_name_nothing_or_twice_are_refused(text: object) -> None:
    """An empty name would read the wrong key, and a name given twice would count twice."""
    with pytest.raises(InvalidSpec):
        queues_of(text)


def test_rights_are_within_one_namespace_and_touch_no_secret() -> None:
    """The Role never grows to what the password protects, to deletion, or to everything."""
    words = {word for rule in contract.RBAC_RULES for key in rule for word in rule[key]}

    assert not words & {"*", "secrets", "delete", "deletecollection"}
    assert [rule for rule in contract.RBAC_RULES if any("pods" in name for name in rule["resources"])] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    ]
