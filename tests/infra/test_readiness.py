"""The verdict over a wait: rows of what was read at which second, and what a person is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from infra.live.readiness import CURES, Done, Failed, Memory, Verdict, Waiting, assess
from infra.live.sightings import CelerySeen, ContainerSeen, DeploymentSeen, PodSeen, Seen
from infra.live.trouble import Limits
from scaler.contract import SCALER_NAME, Ready

LIMITS = Limits(ready_seconds=60, image_seconds=300)
NOT_FOUND = 'failed to pull and unpack image "registry/app:1": not found'
NO_ANSWER = 'failed to do request: Head "https://registry/v2/": dial tcp: i/o timeout'


def container(**fields: Any) -> ContainerSeen:
    """One that has run for a minute and more."""
    return ContainerSeen(
        **{"name": "worker", "image": "registry/app:1", "ready": True, "running_seconds": 100, **fields}
    )


def waiting(reason: str, message: str = "", **fields: Any) -> ContainerSeen:
    return container(ready=False, running_seconds=None, waiting=reason, message=message, **fields)


def deployment(
    *containers: ContainerSeen,
    name: str = "web",
    unschedulable: str = "",
    set_up: bool = False,
    warnings: tuple[tuple[str, str], ...] = (),
    **fields: Any,
) -> DeploymentSeen:
    """One pod wanted; it is available where its containers are ready."""
    pod = PodSeen(
        name=f"{name}-1",
        containers=containers,
        unschedulable=unschedulable,
        set_up=set_up,
        warnings=warnings,
    )
    up = bool(containers) and all(one.ready for one in containers)
    return DeploymentSeen(**{"name": name, "available": int(up), "pods": (pod,), **fields})


def celery(**fields: Any) -> CelerySeen:
    return CelerySeen(**{"name": "web", "observed_generation": 1, "ready": "True", **fields})


def seen(*deployments: DeploymentSeen, celeries: Sequence[CelerySeen] = ()) -> Seen:
    return Seen(
        deployments={item.name: item for item in deployments},
        celeries={item.name: item for item in celeries},
    )


def verdict_at(second: float, *readings: tuple[float, Seen]) -> Verdict:
    """What is said at `second`, when each reading holds until the next one, read once a second."""
    memory, verdict = Memory(started=0), None
    for now in range(int(second) + 1):
        current = [reading for since, reading in readings if since <= now][-1]
        verdict, memory = assess(current, memory, LIMITS, now)
        if isinstance(verdict, Failed) and now < second:
            raise AssertionError(f"failed already at {now} s: {verdict.message}")
    assert verdict is not None
    return verdict


RUNNING = deployment(container())
SCALER = deployment(container(name="scaler", probed=True), name=SCALER_NAME)


@pytest.mark.parametrize(
    "reading",
    [
        pytest.param(seen(), id="nothing is declared"),
        pytest.param(seen(RUNNING), id="every pod is of this version and available"),
        pytest.param(
            seen(DeploymentSeen(name="web", wanted=0, replicas=0, updated=0, available=0)),
            id="a Deployment scaled to zero wants no pod",
        ),
        pytest.param(seen(SCALER, celeries=[celery()]), id="the scaler reports Ready for this generation"),
        pytest.param(seen(celeries=[celery(generation=0)]), id="a report on a later generation counts"),
        pytest.param(
            seen(deployment(container(probed=True, running_seconds=1))),
            id="a probe vouches for a container that has only just started",
        ),
    ],
)
def test_done_at_the_first_reading(reading: Seen) -> None:
    assert verdict_at(0, (0, reading)) == Done()


@pytest.mark.parametrize(
    ("reading", "seconds"),
    [
        pytest.param(seen(deployment(waiting("ErrImagePull", NOT_FOUND))), 15, id="the registry said no"),
        pytest.param(
            seen(deployment(waiting("ImagePullBackOff", NO_ANSWER))), 45, id="the registry did not answer"
        ),
        pytest.param(seen(deployment(waiting("InvalidImageName"))), 0, id="no such name can exist"),
        pytest.param(seen(deployment(waiting("ErrImageNeverPull"))), 0, id="nothing will pull it"),
        pytest.param(
            seen(deployment(waiting("CreateContainerConfigError", 'secret "broker" not found'))),
            15,
            id="a Secret is missing",
        ),
        pytest.param(
            seen(deployment(waiting("RunContainerError", 'exec: "celery": executable file not found'))),
            15,
            id="the image lacks the command",
        ),
        pytest.param(
            seen(deployment(waiting("CrashLoopBackOff", restarts=2, exited="Error, exit code 1"))),
            0,
            id="it crashed three times",
        ),
        pytest.param(
            seen(deployment(waiting("", ended=True, restarts=2, exited="Error, exit code 1"))),
            0,
            id="it crashed three times and its back-off is not called so yet",
        ),
        pytest.param(
            seen(deployment(waiting("CrashLoopBackOff", restarts=1, exited="Error, exit code 1"))),
            60,
            id="it crashed twice and does not come back",
        ),
        pytest.param(
            seen(deployment(unschedulable="0/1 nodes are available: 1 Insufficient cpu.")), 120, id="no node"
        ),
        pytest.param(
            seen(deployment(updated=0, replicas=0, refused="exceeded quota: pods=1", pods=())), 15, id="quota"
        ),
        pytest.param(
            seen(
                deployment(
                    waiting("ContainerCreating"),
                    warnings=(("FailedMount", 'MountVolume.SetUp failed: secret "broker" not found'),),
                )
            ),
            15,
            id="a Secret that is to be mounted is missing",
        ),
        pytest.param(
            seen(
                deployment(
                    waiting("ContainerCreating"),
                    set_up=True,
                    warnings=(("FailedMount", 'MountVolume.SetUp failed: secret "broker" not found'),),
                )
            ),
            300,
            id="a mount that failed at first and a slow image",
        ),
        pytest.param(seen(deployment(waiting("ContainerCreating"))), 300, id="an image takes too long"),
        pytest.param(seen(deployment(container(ready=False, probed=True))), 60, id="its probe never passes"),
        pytest.param(seen(deployment(container(), generation=2)), 60, id="no controller takes it up"),
        pytest.param(seen(deployment(container(), replicas=2)), 60, id="the version before does not leave"),
        pytest.param(Seen(deployments={"web": None}), 15, id="the Deployment was removed"),
        pytest.param(Seen(celeries={"web": None}), 15, id="the Celery object was removed"),
        pytest.param(
            seen(SCALER, celeries=[celery(ready="False", reason=Ready.BROKER_REFUSED, message="NOAUTH")]),
            60,
            id="the broker refuses the scaler",
        ),
        pytest.param(
            seen(SCALER, celeries=[celery(ready="False", reason=Ready.INVALID_SPEC, message="min > max")]),
            0,
            id="the scaler cannot use the object as it is now",
        ),
        pytest.param(seen(SCALER, celeries=[celery(ready="")]), 60, id="the scaler says nothing"),
        pytest.param(
            seen(SCALER, celeries=[celery(generation=2)]), 60, id="the scaler speaks of an older generation"
        ),
    ],
)
def test_fails_after_its_patience_and_not_before(reading: Seen, seconds: int) -> None:
    if seconds:
        assert isinstance(verdict_at(seconds - 1, (0, reading)), Waiting)

    assert isinstance(verdict_at(seconds, (0, reading)), Failed)


def test_one_message_lists_everything_that_is_not_ready_with_its_cure() -> None:
    reading = seen(
        deployment(waiting("ImagePullBackOff", NOT_FOUND)),
        deployment(waiting("ContainerCreating"), name="flower"),
        SCALER,
        celeries=[celery(ready="False", reason=Ready.BROKER_UNREACHABLE, message="connection refused")],
    )

    assert verdict_at(15, (0, reading)) == Failed(
        "the fleet is not ready after 15 s:\n"
        "- Deployment web: image registry/app:1 cannot be pulled (ImagePullBackOff): not found. Build and "
        "push it (make images REGISTRY=... PUSH=1) or correct its name (pulumi config set image, "
        "imageRegistry or imageTag); for a private registry, pulumi config set imagePullSecrets.\n"
        "- Deployment flower: pod flower-1 pulls image registry/app:1 (ContainerCreating). If the image is "
        "large or the network slow, `pulumi up` again goes on from here.\n"
        "- Celery object web: BrokerUnreachable: connection refused. See whether the broker runs and "
        "whether a NetworkPolicy lets the scaler in."
    )


def test_a_crash_is_told_with_its_exit_code_and_last_words() -> None:
    crashed = waiting(
        "CrashLoopBackOff", restarts=2, exited="Error, exit code 1", log_tail="No module named 'shop'"
    )

    assert verdict_at(0, (0, seen(deployment(crashed)))) == Failed(
        "the fleet is not ready after 0 s:\n"
        "- Deployment web: container worker has ended 3 times (Error, exit code 1). Its last words:\n"
        "    No module named 'shop'\n"
        "  See `kubectl logs web-1 -c worker --previous`."
    )


def test_to_and_fro_between_pull_states_and_pods_is_one_trouble() -> None:
    """kubelet alternates ErrImagePull and ImagePullBackOff; a ReplicaSet may replace the pod meanwhile."""
    error = seen(deployment(waiting("ErrImagePull", NOT_FOUND)))
    back_off = seen(deployment(waiting("ImagePullBackOff", NOT_FOUND)))

    assert isinstance(verdict_at(15, (0, error), (6, back_off), (12, error)), Failed)


def test_a_pull_that_fails_once_is_forgiven() -> None:
    failing = seen(deployment(waiting("ErrImagePull", NO_ANSWER)))

    assert verdict_at(20, (0, failing), (14, seen(RUNNING))) == Done()


def test_a_container_without_a_probe_has_to_run_for_ten_seconds() -> None:
    """It is available from its first second, also when it is to crash in the third."""
    fresh = seen(deployment(container(running_seconds=1)))

    assert isinstance(verdict_at(9, (0, fresh)), Waiting)
    assert verdict_at(10, (0, fresh)) == Done()


def test_a_container_that_restarts_begins_its_ten_seconds_anew() -> None:
    first = seen(deployment(container(running_seconds=1)))
    again = seen(deployment(container(running_seconds=1, restarts=1)))

    assert isinstance(verdict_at(17, (0, first), (8, again)), Waiting)
    assert verdict_at(18, (0, first), (8, again)) == Done()


def test_what_crashes_while_something_else_still_starts_is_given_time() -> None:
    """It may be waiting for just that."""
    crash = deployment(waiting("CrashLoopBackOff", restarts=3, exited="Error, exit code 1"))
    broker = deployment(waiting("ContainerCreating"), name="redis")
    ready = deployment(container(), name="redis")

    assert isinstance(verdict_at(40, (0, seen(crash, broker))), Waiting)
    assert isinstance(verdict_at(41, (0, seen(crash, broker)), (41, seen(crash, ready))), Failed)


def test_the_scaler_has_its_time_from_when_its_pod_runs() -> None:
    silent = celery(ready="")
    pulling = deployment(waiting("ContainerCreating", name="scaler"), name=SCALER_NAME)
    readings = (0, seen(pulling, celeries=[silent])), (100, seen(SCALER, celeries=[silent]))

    assert isinstance(verdict_at(159, *readings), Waiting)
    assert isinstance(verdict_at(160, *readings), Failed)


def test_the_reasons_of_one_object_share_one_clock() -> None:
    """While a broker comes up the reason changes from poll to poll."""
    refused = seen(SCALER, celeries=[celery(ready="False", reason=Ready.BROKER_UNREACHABLE)])
    loading = seen(SCALER, celeries=[celery(ready="False", reason=Ready.BROKER_NOT_READY)])

    assert isinstance(verdict_at(60, (0, refused), (30, loading)), Failed)


def test_a_roll_out_that_moves_is_waited_for() -> None:
    """100 pods, a quarter at a time: each step begins a new clock, until the last deadline."""
    steps = [
        (start, seen(deployment(container(), wanted=9, replicas=9, updated=count, available=9)))
        for count, start in enumerate(range(0, 450, 50))
    ]

    assert isinstance(verdict_at(434, *steps), Waiting)
    assert isinstance(verdict_at(435, *steps), Failed)  # 300 + 2 * 60 + 15


def test_a_pool_that_serves_on_a_full_cluster_is_a_note() -> None:
    full = deployment(
        container(), unschedulable="0/1 nodes are available", wanted=9, replicas=9, updated=9, available=5
    )

    note = (
        "Deployment web: pod web-1 finds no node: 0/1 nodes are available. Add nodes, or ask for less: "
        "pulumi config set resources, concurrency or maxReplicas."
    )
    assert verdict_at(0, (0, seen(full))) == Done((note,))


def test_a_pool_on_a_full_cluster_has_to_settle_like_any_other() -> None:
    fresh = deployment(container(running_seconds=1), refused="exceeded quota: pods=1", updated=1, wanted=2)

    assert isinstance(verdict_at(9, (0, seen(fresh))), Waiting)
    assert isinstance(verdict_at(10, (0, seen(fresh))), Done)


def test_a_trouble_that_blinks_keeps_its_clock() -> None:
    """As when a kubelet restarts during a failing pull."""
    failing = seen(deployment(waiting("ErrImagePull", NO_ANSWER)))
    creating = seen(deployment(waiting("ContainerCreating")))

    assert isinstance(verdict_at(45, (0, failing), (30, creating), (44, failing)), Failed)
    assert isinstance(verdict_at(45, (0, failing), (20, creating), (44, failing)), Waiting)


def test_memory_forgets_what_is_over() -> None:
    _, memory = assess(seen(deployment(waiting("ErrImagePull"))), Memory(started=0), LIMITS, 0)
    verdict, memory = assess(seen(RUNNING), memory, LIMITS, 16)

    assert (verdict, memory) == (Done(), Memory(started=0))


BY_ITSELF = {Ready.WATCHING, Ready.BROKER_NOT_READY, Ready.BROKER_UNREADABLE}
"""What is well, what time mends, and what only the object's own sentence can explain."""


@pytest.mark.parametrize("reason", sorted(set(Ready) - BY_ITSELF))
def test_every_reason_of_the_scaler_comes_with_what_to_do(reason: Ready) -> None:
    failing = seen(SCALER, celeries=[celery(ready="False", reason=reason, message="why")])
    verdict = verdict_at(0 if reason is Ready.INVALID_SPEC else 60, (0, failing))

    assert isinstance(verdict, Failed)
    assert f"{reason}: why. {CURES[reason]}" in verdict.message
