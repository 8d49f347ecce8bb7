"""What the preview says of a stack that would work and is unwise, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from infra.recording import record
from infra.settings import Configuration, Settings, WrongSettings, load
from tests.infra.conftest import STACKS, given, settings


def loaded(**values: Any) -> Settings:
    return load(Configuration(stack="dev", values=given(**values)))


def said(key: str, wrong: str, effect: str, fix: str) -> str:
    return f"{key}: {wrong}\n    effect: {effect}\n    fix:    {fix}"


KILLED = (
    "a roll-out, a node that is emptied or a destroy kills tasks that still run: they are lost, or with "
    "acksLate run again after the visibility timeout"
)
NOT_GIVEN_BACK = (
    "Kubernetes kills a stopping worker before it gives its tasks back: they come back only after the "
    "visibility timeout"
)
LOST = "a task that still runs then is lost: its message was acknowledged when it began"
TWICE = "Redis gives such a task to a second worker while the first still has it: it runs twice"
TWICE_BY_PREFETCH = "Redis gives the last of them to a second worker before their turn comes: they run twice"
BEHIND = "they wait behind the running one while other workers, new ones too, have nothing to do"
LATE = "the last of them waits that long although the pool may have more workers"

ABOUT_TASKS = [
    pytest.param(
        {"gracePeriodSeconds": "39", "longestTaskSeconds": "30"},
        said(
            "gracePeriodSeconds",
            "39 s are less than the longest task's 30 s and 10 s to stop in",
            KILLED,
            "pulumi config set gracePeriodSeconds 40",
        ),
        id="a grace period below the longest task",
    ),
    pytest.param(
        {
            "longestTaskSeconds": "20",
            "pools": {"reports": {"longestTaskSeconds": 30, "gracePeriodSeconds": 30}},
        },
        said(
            "pools.reports.gracePeriodSeconds",
            "30 s are less than the longest task's 30 s and 10 s to stop in",
            KILLED,
            "pulumi config set --path pools.reports.gracePeriodSeconds 40",
        ),
        id="a grace period of one pool",
    ),
    pytest.param(
        {"longestTaskSeconds": "20", "pools": {"slow": {"queues": ["slow"], "longestTaskSeconds": 400}}}
        | {"averageValue": "1", "prefetchMultiplier": "1"},
        said(
            "gracePeriodSeconds",
            "300 s are less than the longest task's 400 s and 10 s to stop in",
            KILLED,
            "pulumi config set gracePeriodSeconds 410",
        ),
        id="a grace period that a pool takes from the flat keys",
    ),
    pytest.param(
        {"gracePeriodSeconds": "60", "softShutdownTimeoutSeconds": "60", "acksLate": "true"},
        said(
            "gracePeriodSeconds",
            "60 s are less than the soft shutdown's 60 s and 10 s to stop in",
            NOT_GIVEN_BACK,
            "pulumi config set gracePeriodSeconds 70",
        ),
        id="a grace period below the soft shutdown",
    ),
    pytest.param(
        {"softShutdownTimeoutSeconds": "30"},
        said(
            "acksLate",
            "is not set, and a stopping worker ends its tasks after 30 s of soft shutdown",
            LOST,
            "pulumi config set acksLate true",
        ),
        id="a soft shutdown of tasks of any length that are acknowledged early",
    ),
    pytest.param(
        {"softShutdownTimeoutSeconds": "30", "longestTaskSeconds": "31"},
        said(
            "acksLate",
            "is not set, and a stopping worker ends its tasks after 30 s of soft shutdown",
            LOST,
            "pulumi config set acksLate true",
        ),
        id="a soft shutdown before the end of the longest task",
    ),
    pytest.param(
        {
            "longestTaskSeconds": "5000",
            "gracePeriodSeconds": "6000",
            "prefetchMultiplier": "1",
            "averageValue": "1",
        },
        said(
            "visibilityTimeoutSeconds",
            "3600 s, kombu's default, are less than pool default's longest task (5000 s)",
            TWICE,
            "pulumi config set visibilityTimeoutSeconds 5000",
        ),
        id="kombu's visibility timeout below the longest task",
    ),
    pytest.param(
        {"etaHorizonSeconds": "86400", "longestTaskSeconds": "10", "visibilityTimeoutSeconds": "7200"},
        said(
            "visibilityTimeoutSeconds",
            "7200 s are less than pool default's longest task (10 s) and furthest ETA (86400 s)",
            TWICE,
            "pulumi config set visibilityTimeoutSeconds 86440",  # 86400 + 4 x 10
        ),
        id="a visibility timeout below the longest ETA",
    ),
    pytest.param(
        {"etaHorizonSeconds": "600", "brokerTransportOptions": {"visibility_timeout": 300}},
        said(
            "brokerTransportOptions.visibility_timeout",
            "300 s are less than pool default's furthest ETA (600 s)",
            TWICE,
            "pulumi config set --path brokerTransportOptions.visibility_timeout 600",
        ),
        id="a visibility timeout among the transport options",
    ),
    pytest.param(
        {
            "pools": {
                "mail": {"queues": ["mail"], "etaHorizonSeconds": 4000},
                "bills": {"queues": ["bills"], "etaHorizonSeconds": 3700, "longestTaskSeconds": 200},
            },
        }
        | {"averageValue": "1", "disablePrefetch": "true"},
        said(
            "visibilityTimeoutSeconds",
            "3600 s, kombu's default, are less than pool mail's furthest ETA (4000 s)",
            TWICE,
            "pulumi config set visibilityTimeoutSeconds 4000",
        ),
        id="one visibility timeout for all pools, by the one that needs most",
    ),
    pytest.param(
        {"extraArgs": ["-E", "-B"]},
        said(
            "extraArgs[1]",
            "runs Celery beat in every worker of a pool that is scaled",
            "each scheduled task is sent once by every worker, and by none where none runs",
            "run it once, in a pod of its own: pulumi config set beat true, and: "
            "pulumi config rm --path 'extraArgs[1]'",
        ),
        id="beat in the workers",
    ),
    pytest.param(
        {"pools": {"mail": {"extraArgs": ["-EB"]}}},
        said(
            "pools.mail.extraArgs[0]",
            "runs Celery beat in every worker of a pool that is scaled",
            "each scheduled task is sent once by every worker, and by none where none runs",
            "run it once, in a pod of its own: pulumi config set beat true, and: "
            "pulumi config rm --path 'pools.mail.extraArgs[0]'",
        ),
        id="beat behind another flag",
    ),
]

WARNINGS = [
    pytest.param(
        {"longestTaskSeconds": "1000", "gracePeriodSeconds": "1010", "averageValue": "1"},
        said(
            "prefetchMultiplier",
            "a process may hold 4 messages for 4 x 1000 s, and the visibility timeout is 3600 s",
            TWICE_BY_PREFETCH,
            "pulumi config set prefetchMultiplier 1",
        ),
        id="a prefetch that outlasts the visibility timeout",
    ),
    pytest.param(
        {
            "longestTaskSeconds": "20",
            "etaHorizonSeconds": "500",
            "prefetchMultiplier": "10",
            "visibilityTimeoutSeconds": "600",
        },
        said(
            "prefetchMultiplier",
            "a process may hold 10 messages for 10 x 20 s after an ETA of 500 s, and the visibility timeout "
            "is 600 s",
            TWICE_BY_PREFETCH,
            "pulumi config set prefetchMultiplier 1",
        ),
        id="a prefetch that outlasts it together with an ETA",
    ),
    pytest.param(
        {"longestTaskSeconds": "60", "averageValue": "10"},
        said(
            "prefetchMultiplier",
            "4, Celery's default, lets a process hold 4 tasks of up to 60 s",
            BEHIND,
            "pulumi config set prefetchMultiplier 1",
        ),
        id="Celery's prefetch with long tasks",
    ),
    pytest.param(
        {"longestTaskSeconds": "120", "averageValue": "10", "prefetchMultiplier": "2"},
        said(
            "prefetchMultiplier",
            "2 lets a process hold 2 tasks of up to 2 min",
            BEHIND,
            "pulumi config set prefetchMultiplier 1",
        ),
        id="a prefetch of one's own with long tasks",
    ),
    pytest.param(
        {"extraArgs": ["--without-heartbeat"]},
        said(
            "extraArgs[0]",
            "--without-heartbeat keeps the workers silent",
            "the scaler cannot tell which are idle, so it takes none away, and which hang",
            "pulumi config rm --path 'extraArgs[0]'",
        ),
        id="no heartbeats",
    ),
    *(
        pytest.param(
            {"extraArgs": arguments},
            said(
                f"extraArgs[{where}]",
                "a worker of the solo pool answers nothing while it runs a task",
                "the scaler cannot tell a busy worker from a dead one, so it takes none away",
                f"pulumi config set --path 'extraArgs[{value}]' {better}",
            ),
            id=f"the solo pool as {' '.join(arguments)}",
        )
        for arguments, where, value, better in [
            (["-E", "-P", "solo"], 1, 2, "prefork"),
            (["--pool", "solo"], 0, 1, "prefork"),
            (["-Psolo"], 0, 0, "-- -Pprefork"),
            (["--pool=solo"], 0, 0, "-- --pool=prefork"),
        ]
    ),
    pytest.param(
        {"averageValue": "3", "concurrency": "4"},
        said(
            "averageValue",
            "a worker is meant for 3 messages and runs 4 at a time",
            "the pool starts more workers than it can keep busy",
            "pulumi config set averageValue 4",
        ),
        id="fewer messages than processes",
    ),
    pytest.param(
        {"averageValue": "500", "concurrency": "2", "longestTaskSeconds": "30"},
        said(
            "averageValue",
            "500 tasks of up to 30 s keep one worker busy for up to 2 h 5 min",  # 500 x 30 / 2 = 7500 s
            LATE,
            "pulumi config set averageValue 40",  # 600 x 2 / 30
        ),
        id="more messages than a worker can do in an hour",
    ),
    pytest.param(
        {"averageValue": "3", "longestTaskSeconds": "3590", "gracePeriodSeconds": "3600"}
        | {"disablePrefetch": "true"},
        said(
            "averageValue",
            "3 tasks of up to 59 min keep one worker busy for up to 2 h 59 min",  # 3 x 3590 = 10770 s
            LATE,
            "pulumi config set averageValue 1",
        ),
        id="tasks of an hour for one process",
    ),
    pytest.param(
        {"drainSeconds": "20", "longestTaskSeconds": "30"},
        said(
            "drainSeconds",
            "20 s are less than the longest task's 30 s",
            "a worker that runs one stops consuming, is kept and begins again: the pool stays too large",
            "pulumi config set drainSeconds 0",
        ),
        id="a drain shorter than a task",
    ),
    pytest.param(
        {"minReplicas": "0", "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}},
        said(
            "behavior.scaleDown.stabilizationWindowSeconds",
            "5 s of calm stop the last worker, since minReplicas is 0",
            "a short pause between tasks stops it, and the next task waits for a pod to start",
            "pulumi config set --path behavior.scaleDown.stabilizationWindowSeconds 60",
        ),
        id="a pool that flaps to zero",
    ),
]


@pytest.mark.parametrize(("values", "expected"), [*ABOUT_TASKS, *WARNINGS])
def test_a_finding_is_said_with_effect_and_cure(values: dict[str, Any], expected: str) -> None:
    """One finding each: a rule says nothing of what another one is about."""
    assert [str(warning) for warning in loaded(**values).warnings] == [expected]


@pytest.mark.parametrize(("values", "expected"), ABOUT_TASKS)
def test_what_loses_or_repeats_tasks_is_an_error_in_production(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(WrongSettings) as wrong:
        loaded(production="true", **values)

    assert str(wrong.value) == (f"stack dev: one setting is wrong, nothing was changed.\n  {expected}")


@pytest.mark.parametrize(("values", "expected"), WARNINGS)
def test_the_rest_is_a_warning_in_production_too(values: dict[str, Any], expected: str) -> None:
    warnings = loaded(production="true", **values).warnings

    assert expected in [str(warning) for warning in warnings]


QUIET = [
    pytest.param({}, id="defaults"),
    pytest.param({"gracePeriodSeconds": "1"}, id="a short grace period for tasks of which nothing is said"),
    pytest.param({"gracePeriodSeconds": "40", "longestTaskSeconds": "30"}, id="just enough grace"),
    pytest.param(
        {"softShutdownTimeoutSeconds": "30", "longestTaskSeconds": "30"}, id="a soft shutdown for every task"
    ),
    pytest.param(
        {"softShutdownTimeoutSeconds": "30", "longestTaskSeconds": "900", "acksLate": "true"}
        | {"disablePrefetch": "true", "averageValue": "4"},
        id="long tasks that go back to the queue, though the grace period is shorter than they are",
    ),
    pytest.param({"etaHorizonSeconds": "3600"}, id="an ETA within the visibility timeout"),
    pytest.param(
        {"longestTaskSeconds": "900", "gracePeriodSeconds": "1000", "averageValue": "4"}
        | {"disablePrefetch": "true"},
        id="long tasks without prefetch",
    ),
    pytest.param({"longestTaskSeconds": "59", "averageValue": "61"}, id="tasks that are not long"),
    pytest.param({"averageValue": "4", "concurrency": "4"}, id="a message for each process"),
    pytest.param({"minReplicas": "0"}, id="scale to zero"),
    pytest.param({"drainSeconds": "30", "longestTaskSeconds": "30"}, id="a drain as long as a task"),
    pytest.param({"extraArgs": ["-P", "gevent", "--time-limit=600", "-Ofair"]}, id="harmless options"),
    pytest.param({"extraArgs": ["--scheduler", "-B"]}, id="a value that looks like an option"),
]


@pytest.mark.parametrize("values", QUIET)
def test_nothing_is_said_of_what_is_well(values: dict[str, Any]) -> None:
    assert loaded(**values).warnings == ()


@pytest.mark.parametrize("production", ["false", "true"])
@pytest.mark.parametrize("flag", ["--purge", "--discard"])
def test_a_start_that_deletes_tasks_is_refused_everywhere(flag: str, production: str) -> None:
    with pytest.raises(WrongSettings) as wrong:
        loaded(extraArgs=[flag], production=production)

    assert str(wrong.value) == "stack dev: one setting is wrong, nothing was changed.\n  " + said(
        "extraArgs[0]",
        "--purge empties the queues whenever a worker starts",
        "every growth of the pool, every roll-out and every restart deletes what waits",
        "pulumi config rm --path 'extraArgs[0]'",
    )


def test_production_asks_for_the_longest_task() -> None:
    pools = {"mail": {"queues": ["mail"], "longestTaskSeconds": 5}, "bills": {"queues": ["bills"]}}

    assert [str(warning) for warning in loaded(production="true", pools=pools).warnings] == [
        said(
            "longestTaskSeconds",
            "is not declared",
            "nothing tells whether gracePeriodSeconds and visibilityTimeoutSeconds cover the longest task",
            "pulumi config set longestTaskSeconds '<seconds>'",
        )
    ]


def test_findings_come_with_the_wrong_keys_in_one_message() -> None:
    """And nothing is said of the default that stands in for a value of the wrong type."""
    with pytest.raises(WrongSettings) as wrong:
        loaded(
            production="true",
            concurrency="0",
            longestTaskSeconds="400",
            gracePeriodSeconds="5m",
            prefetchMultiplier="1",
            averageValue="1",
            extraArgs=["-B"],
        )

    keys = [line.split(":")[0] for line in str(wrong.value).splitlines() if line[2:3] not in (" ", "c")]
    assert keys == ["stack dev", "  gracePeriodSeconds", "  extraArgs[0]"]
    assert "  concurrency: must be a whole number" in str(wrong.value)


def test_pools_that_are_no_objects_are_all_that_is_said() -> None:
    with pytest.raises(WrongSettings, match="one setting is wrong"):
        loaded(pools={"mail": 3})


def test_two_pools_with_the_same_fault_of_a_flat_key_are_one_warning() -> None:
    pools = {"mail": {"queues": ["mail"]}, "bills": {"queues": ["bills"]}}
    warnings = loaded(gracePeriodSeconds="5", longestTaskSeconds="30", pools=pools).warnings

    assert [warning.key for warning in warnings] == ["gracePeriodSeconds"]


def test_the_program_shows_them_as_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """Where the engine prints warnings, at every preview; the mocks' engine logs them."""
    found = settings("dev", {"gracePeriodSeconds": "5", "longestTaskSeconds": "30"})

    record(found)

    shown = [(entry.levelname, entry.message) for entry in caplog.records]
    assert shown == [("WARNING", str(warning)) for warning in found.warnings]
    assert len(shown) == 1


@pytest.mark.parametrize("stack", STACKS)
def test_the_stacks_that_come_with_the_project_are_quiet(stack: str) -> None:
    assert settings(stack).warnings == ()


def test_production_says_that_it_is() -> None:
    assert settings("prod").production
    assert not settings("dev").production
