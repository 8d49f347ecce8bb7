"""A Deployment that somebody edited by hand is told from one that runs what its object says."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from scaler.cluster import wire
from scaler.cluster.command_line import runs_of
from scaler.cluster.objects import Deployment, Runs
from scaler.contract import Policy
from scaler.pool.count import Count
from scaler.pool.drift import drift
from scaler.pool.status import document, urgent
from tests.scaler.samples import AT
from tests.scaler.test_status import report

POLICY = Policy(
    deployment="sums-celery-worker",
    queues=("sums", "mail"),
    min_replicas=1,
    max_replicas=4,
    average_value=10,
    concurrency=2,
    image="shop:1",
)
COMMAND = ["celery", "-A", "shop:app", "worker", "-Q", "mail,sums", "-c", "2", "--", "x.y=-c 9", "-c", "9"]


@pytest.mark.parametrize(
    ("words", "queues", "concurrency"),
    [
        (COMMAND, ("mail", "sums"), 2),
        (["celery", "worker", "--queues=a,b", "--concurrency=8"], ("a", "b"), 8),
        (["celery", "worker", "--queues", "a", "--concurrency", "8"], ("a",), 8),
        (["celery", "worker", "-Qa", "-c8"], ("a",), 8),
        (["celery", "worker"], None, None),
        (["celery", "worker", "-Q", "$(QUEUES)", "-c", "$(SLOTS)"], None, None),
        (["celery", "worker", "-Q", "a,,b", "-c"], None, None),
        (["sh", "-c", "exec celery worker -Q a"], None, None),
        ([], None, None),
    ],
)
def test_the_command_line_is_read_as_celery_does(
    words: list[str], queues: tuple[str, ...] | None, concurrency: int | None
) -> None:
    assert runs_of("shop:1", words) == Runs(image="shop:1", queues=queues, concurrency=concurrency)


def deployment(*, image: str = "shop:1", command: list[str] = COMMAND, updated: int = 2) -> Deployment:
    """As the API server shows one, decoded."""
    found = msgspec.json.decode(
        msgspec.json.encode(
            {
                "metadata": {
                    "name": "sums-celery-worker",
                    "uid": "u",
                    "resourceVersion": "1",
                    "generation": 3,
                },
                "spec": {
                    "replicas": 2,
                    "template": {
                        "spec": {
                            "containers": [
                                {
                                    "name": "worker",
                                    "image": image,
                                    "command": command[:4],
                                    "args": command[4:],
                                },
                                {"name": "proxy", "image": "proxy:7", "args": ["-c", "77"]},
                            ]
                        }
                    },
                },
                "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": updated},
            }
        ),
        type=wire.DeploymentObject,
    )
    extract = wire.deployment_extract(found, None)
    assert extract is not None
    return extract


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (deployment(), ""),
        (deployment(image="shop:2", updated=1), ""),
        (
            deployment(image="shop:2"),
            "sums-celery-worker runs image shop:2, the object says shop:1. The scaler goes by the object",
        ),
        (
            deployment(command=["celery", "-A", "shop:app", "worker", "-Q", "sums", "-c", "8"]),
            (
                "sums-celery-worker takes queues sums, the object says sums,mail; "
                "has concurrency 8, the object says 2. The scaler goes by the object"
            ),
        ),
        (deployment(command=["celery", "-A", "shop:app", "worker"]), ""),
        (replace(deployment(image="shop:2"), runs=None), ""),
    ],
    ids=["agrees", "rolls out", "image", "queues and concurrency", "says nothing", "no container"],
)
def test_what_differs_is_said(found: Deployment, said: str) -> None:
    assert drift(POLICY, found) == said


def test_an_object_without_an_image_leaves_it_to_the_deployment() -> None:
    assert drift(replace(POLICY, image=""), deployment(image="shop:2")) == ""


def test_drift_is_a_condition_as_long_as_it_lasts_and_urgent_both_ways() -> None:
    before = document(report(), {}, AT)
    during = document(report(drift="sums-celery-worker runs image b"), before, AT + 2)
    after = document(report(queued=Count.exactly(390)), during, AT + 4)

    (told,) = (item for item in during["conditions"] if item["type"] == "SpecDrift")
    assert (told["status"], told["reason"]) == ("True", "DeploymentDiffers")
    assert told["message"] == "sums-celery-worker runs image b"
    assert [item["type"] for item in after["conditions"]] == [item["type"] for item in before["conditions"]]
    assert urgent(before, during)
    assert urgent(during, after)
