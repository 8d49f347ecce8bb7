"""`python -m scaler status`: the table and its JSON, on an API server that plays the fleet and a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler.cluster.client import Api
from scaler.commands.status import Row, note_of, read, status, table
from scaler.contract import SCALER_NAME, Env
from tests.recorded_cluster import NAMESPACE, RecordedCluster
from tests.scaler.samples import spec
from tests.scaler.site import Requests, Site, seen, staged

ROOT = Path(__file__).parents[2]
OLD = "scaler-0 renewed its Lease "


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RecordedCluster]:
    with RecordedCluster(tmp_path / "kubeconfig") as made:
        made.replicas |= {SCALER_NAME: 1, "web-celery-worker": 2}
        made.specs["web"] = spec()
        decision = {"reason": "DemandRose", "message": "demand 502 asks for 6"}
        limited = {"type": "Active", "status": "True"}
        made.report("web", queued=500, unacked=2, replicas=2, desiredReplicas=6, decision=decision)
        made.pools["web"] = {**made.pools["web"], "conditions": [*made.pools["web"]["conditions"], limited]}
        yield made


def command(cluster: RecordedCluster, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scaler", "status", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONWARNINGS": "error",
            Env.NAMESPACE: NAMESPACE,
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(cluster: RecordedCluster, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    process = command(cluster, *arguments)
    said, wrong = process.communicate(timeout=60)
    return process.returncode, said, wrong


def test_table_aligns_and_shows_the_unknown_as_such() -> None:
    rows = [
        Row(
            name="mail",
            state="Active",
            queued=12000,
            unacked=8,
            active=8,
            not_due=0,
            capacity=8,
            replicas=4,
            desired=4,
            min=2,
            max=4,
            mode="active",
            paused=False,
            reason="AtMaximum",
            message="demand 12008",
        ),
        Row(
            name="reports-of-the-month",
            state="Hold",
            queued=None,
            unacked=None,
            active=None,
            not_due=None,
            capacity=None,
            replicas=None,
            desired=None,
            min=None,
            max=None,
            mode=None,
            paused=None,
            reason="",
            message="no scaler has looked at it yet",
        ),
    ]

    assert [line.split("  ", 1)[1].strip() for line in table(rows)] == [
        "STATE   QUEUED  UNACKED  ACTIVE  NOT DUE  SLOTS  REPLICAS  MIN..MAX  REASON: MESSAGE",
        "Active   12000        8       8        0      8    4 -> 4      2..4  AtMaximum: demand 12008",
        "Hold         ?        ?       ?        ?      ?    ? -> ?      ?..?  no scaler has looked at it yet",
    ]
    assert [line[:22] for line in table(rows)] == [
        "POOL                  ",
        "mail                  ",
        "reports-of-the-month  ",
    ]


def test_json_is_one_document_with_null_for_the_unknown(cluster: RecordedCluster) -> None:
    cluster.pools["new"] = {}
    code, said, _ = run(cluster, "--json")

    document = json.loads(said)
    assert code == 0
    assert document["namespace"] == NAMESPACE
    assert document["note"].startswith(OLD)  # the Lease of the recorded cluster is of 2026's first minute
    assert document["pools"] == [
        {
            "name": "new",
            "state": "Hold",
            "queued": None,
            "unacked": None,
            "active": None,
            "notDue": None,
            "capacity": None,
            "replicas": None,
            "desired": None,
            "min": None,
            "max": None,
            "mode": None,
            "paused": None,
            "reason": "",
            "message": "no scaler has looked at it yet",
        },
        {
            "name": "web",
            "state": "Active",
            "queued": 500,
            "unacked": 2,
            "active": 0,
            "notDue": 0,
            "capacity": None,
            "replicas": 2,
            "desired": 6,
            "min": 2,
            "max": 10,
            "mode": "active",
            "paused": False,
            "reason": "DemandRose",
            "message": "demand 502 asks for 6",
        },
    ]
    assert cluster.writes == []


def test_json_says_who_does_nothing(cluster: RecordedCluster) -> None:
    """A pool in shadow looks like one that acts, but for this."""
    cluster.specs["web"] = spec(mode="shadow", paused=True)
    _, said, _ = run(cluster, "--json")

    (pool,) = json.loads(said)["pools"]
    assert (pool["mode"], pool["paused"]) == ("shadow", True)


def test_a_pool_that_is_not_ready_says_why(cluster: RecordedCluster) -> None:
    """The most basic thing that is wrong, not the decision that followed from it."""
    away = {"type": "Ready", "status": "False", "reason": "BrokerUnreachable", "message": "Redis is away"}
    cluster.report("web", conditions=[away], decision={"reason": "DemandUnknown", "message": "demand"})

    _, said, _ = run(cluster)

    assert "Hold" in said
    assert said.splitlines()[1].endswith("BrokerUnreachable: Redis is away")


@pytest.mark.parametrize(
    ("leased", "last"),
    [
        pytest.param(True, "the figures may be that old", id="a Lease that was not renewed for long"),
        pytest.param(False, "no scaler runs here: the figures are as the last one left them", id="no Lease"),
    ],
)
def test_old_figures_are_called_old(cluster: RecordedCluster, leased: bool, last: str) -> None:
    cluster.leased = leased

    code, said, wrong = run(cluster)

    assert (code, wrong) == (0, "")
    assert said.splitlines()[-1].endswith(last)


def test_without_pools_it_says_so(cluster: RecordedCluster) -> None:
    cluster.pools.clear()

    assert run(cluster)[1].splitlines()[0] == f"there is no pool in namespace {NAMESPACE}"


def test_what_cannot_be_read_is_one_line(cluster: RecordedCluster) -> None:
    cluster.forbidden = ("/celery",)

    code, said, wrong = run(cluster)

    assert (code, said) == (1, "")
    assert wrong.startswith(f"the scaler may not list celery in namespace {NAMESPACE}")
    assert wrong.count("\n") == 1


def test_watch_shows_it_again_and_again_until_ctrl_c(cluster: RecordedCluster) -> None:
    """A line of JSON each time; an outage is told and outlived."""
    process = command(cluster, "--watch", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    first = json.loads(process.stdout.readline())
    cluster.forbidden = ("/celery",)
    outage = process.stderr.readline()
    cluster.report("web", queued=7, unacked=0, active=0)
    cluster.forbidden = ()
    later = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate(timeout=10)

    assert (first["pools"][0]["queued"], later["pools"][0]["queued"]) == (500, 7)
    assert "may not list celery" in outage
    assert "Traceback" not in wrong
    assert process.returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--watch", "soon"]], ids=str)
def test_wrong_arguments_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        status(arguments, {})

    assert raised.value.code == 2
    assert "scaler status" in capsys.readouterr().err


@pytest.mark.cluster
async def test_on_a_real_cluster_with_the_scalers_rights(site: Site, requests: Requests) -> None:
    """What a scaler's tick has written is what is shown."""
    async with staged(site, requests) as stage:
        await seen(stage.namespace)
        stage.broker.lengths["sums"] = 400
        await stage.tick()
    api = Api(site.namespace, lambda *request: requests.append(request))

    rows, note = await read(api), await note_of(api, time.time())

    await api.close()
    assert note is None
    assert [(row.name, row.state, row.queued, row.desired, row.reason) for row in rows] == [
        ("sums", "Active", 400, 4, "DemandRose")
    ]
