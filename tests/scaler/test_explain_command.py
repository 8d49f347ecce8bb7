"""`python -m scaler explain`: what is shown of a look, and the command on a real cluster and a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis

from scaler.broker.backlog import Backlog, BrokerFailure, Unacked
from scaler.commands.explain import lines
from scaler.contract import Env, Ready
from scaler.onlooker import Judged
from scaler.pool.count import Count
from scaler.pool.pool import Pool
from scaler.pool.sight import Sight
from scaler.workers.answers import Heard, Heartbeat
from tests.conftest import RedisServer, free_port
from tests.scaler.fakes import FakeCluster
from tests.scaler.samples import AT
from tests.scaler.site import WORKERS, Site

ROOT = Path(__file__).parents[2]


def judged(backlog: Backlog | BrokerFailure, stored: dict[str, Any], **target: Any) -> Judged:
    """A pool of four workers, two of them heard, with a scaler that last wrote `stored`."""
    cluster = FakeCluster(statuses={"sums": stored})
    cluster.add(replicas=4, **target)
    snapshot = cluster.snapshot()
    pool, deployment = Pool(snapshot.celeries["sums"]), snapshot.deployments[WORKERS]
    pods = snapshot.pods[WORKERS]
    beats = {
        f"worker@{pod.name}": Heartbeat(at=AT - 1, active=1, processed=9, offline=False) for pod in pods[:2]
    }
    report, _ = pool.judge(
        Sight(
            at=AT,
            read_at=AT,
            deployment=deployment,
            other_scaler=None,
            backlog=backlog,
            trouble=None,
            pods=pods,
            heard=Heard(since=AT - 60, last=beats),
        )
    )
    return Judged(pool=pool, report=report, deployment=deployment)


FULL = Backlog(
    at=AT,
    lengths={"sums": Count.exactly(905)},
    later={"sums": 5},
    next_due={"sums": AT + 34},
    unacked=Unacked(by_queue={"sums": 2}),
    unacked_later=Unacked(by_queue={"sums": 1}),
)


EXPLAINED = """\
sums, seen 2024-01-01T00:00:00.000000Z: Draining

queued    900 due, of 905 in all
unacked   2 due, of 3 in all
active    0 to 8 running and acknowledged
not due   6, the next in 34 s
replicas  4 asked for, between 2 and 8; 4 pods exist
leaving   sums-3

recipe
  1 demand       900 queued + 2 unacked + 0 to 8 running and acknowledged = 902 to 910
  2 wish         at 100 a worker, rounded up, that asks for 10; one is due in 34 s: at least 1: 4 becomes 10
  3 tolerance    a demand from 360 to 440 changes nothing: 10
  4 calm         behavior looks back on no earlier wishes: 10
  5 step limits  behavior sets no limit: 10
  6 bounds       not below 2, not above 8: 10 becomes 8

outcome   4 -> 8 replicas, AtMaximum
          demand 902 to 910 (900 queued + 2 unacked + 0 to 8 running and acknowledged, more due in 34 s) at \
100 a worker asks for 10 of now 4; maxReplicas is 8

This was a look of its own. The running scaler knows more:
- the wishes of the last 60 s; without them this look keeps every worker. By the status it is not calm
- what its workers answer when it asks them, as it does before any of them leaves.
Its last word, on the object's status: 4 replicas, DemandMet
          demand 300"""


def test_every_input_every_step_and_the_outcome() -> None:
    stored = {
        "decision": {"reason": "DemandMet", "message": "demand 300"},
        "desiredReplicas": 4,
        "draining": [{"pod": "sums-3", "since": "2023-12-31T23:59:30Z"}],
    }

    assert "\n".join(lines(AT, judged(FULL, stored, maxReplicas=8))) == EXPLAINED


def test_what_could_not_be_read_is_unknown_and_not_0() -> None:
    away = BrokerFailure(Ready.BROKER_UNREACHABLE, "Redis at redis:6379/0 cannot be reached")

    shown = list(lines(AT, judged(away, {"calmSince": "2023-12-31T23:59:20Z"})))

    assert shown[:8] == [
        "sums, seen 2024-01-01T00:00:00.000000Z: Hold",
        "",
        "queued    unknown due",
        "unacked   unknown due",
        "active    0 to 8 running and acknowledged",
        "not due   unknown",
        "replicas  4 asked for, between 2 and 10; 4 pods exist",
        "leaving   nobody",
    ]
    assert "  3 unknown      no upper bound of the demand is known: not fewer than there are: 4" in shown
    assert "outcome   4 replicas stay, DemandUnknown" in shown
    assert "          BrokerUnreachable: Redis at redis:6379/0 cannot be reached" in shown
    assert "It has decided nothing yet: there is no decision on the object's status." in shown


def test_a_hold_says_who_decides() -> None:
    shown = list(lines(AT, judged(FULL, {}, paused=True)))

    assert shown[0].endswith(": Paused")
    assert "  1 hold         paused: 4 replicas are kept until paused is false" in shown


def test_in_shadow_the_outcome_is_what_would_be() -> None:
    """Nothing is scaled: `4 -> 8` would be a lie."""
    shown = list(lines(AT, judged(FULL, {}, maxReplicas=8, mode="shadow")))

    assert shown[0] == "sums, seen 2024-01-01T00:00:00.000000Z: Limited, in shadow"
    assert "outcome   4 replicas stay, would be 8, AtMaximum" in shown


@pytest.mark.parametrize(
    ("target", "head"),
    [
        pytest.param({"paused": True}, "Hold, paused", id="paused"),
        pytest.param({"paused": True, "mode": "shadow"}, "Hold, in shadow, paused", id="both"),
        pytest.param({}, "Hold", id="neither"),
    ],
)
def test_the_head_says_who_does_nothing(target: dict[str, Any], head: str) -> None:
    """Where nothing was decided, too."""
    found = judged(FULL, {}, **target)
    report, _ = found.pool.judge(
        Sight(at=AT, read_at=AT, deployment=None, other_scaler=None, backlog=FULL, trouble=None)
    )

    first = next(lines(AT, Judged(pool=found.pool, report=report, deployment=None)))
    assert first == f"sums, seen 2024-01-01T00:00:00.000000Z: {head}"


def test_without_a_deployment_there_is_nothing_to_explain() -> None:
    found = judged(FULL, {})
    report, _ = found.pool.judge(
        Sight(at=AT, read_at=AT, deployment=None, other_scaler=None, backlog=FULL, trouble=None)
    )

    assert list(lines(AT, Judged(pool=found.pool, report=report, deployment=None))) == [
        "sums, seen 2024-01-01T00:00:00.000000Z: Hold",
        f"nothing is decided: there is no Deployment {WORKERS} in this namespace (DeploymentNotFound)",
    ]


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error."""
    done = subprocess.run(
        [sys.executable, "-m", "scaler", "explain", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def environment(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    url_file = tmp_path / "url"
    url_file.write_text(redis_server.url)
    return {
        Env.POD_NAME: "scaler-0",
        Env.BROKER_URL_FILE: str(url_file),
        Env.NAMESPACE: "nowhere",
        Env.POLL_SECONDS: "0.5",
    }


def test_a_wrong_environment_is_exit_code_2() -> None:
    code, said, wrong = run({}, "sums")

    assert (code, said) == (2, "")
    assert [line.split()[0] for line in wrong.splitlines()] == [
        Env.NAMESPACE,
        Env.POD_NAME,
        Env.BROKER_URL_FILE,
    ]


def test_without_a_cluster_it_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    code, said, wrong = run({**environment, "KUBECONFIG": str(tmp_path / "none")}, "sums")

    assert (code, said) == (1, "")
    assert wrong.startswith("starting: no cluster is configured")
    assert wrong.count("\n") == 1


def test_an_api_server_that_gives_no_answer_is_not_waited_for(
    environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "nowhere"
    path.write_text(yaml.safe_dump(unreachable(free_port())))
    code = "import sys, scaler.onlooker; scaler.onlooker.FIRST_LOOK_SECONDS = 2.0; "
    code += "from scaler.__main__ import main; sys.exit(main(['explain', 'sums']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(path), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "the Kubernetes API gave no answer" in done.stderr
    assert "Traceback" not in done.stderr


def unreachable(port: int) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }


def on(site: Site, environment: dict[str, str]) -> dict[str, str]:
    return {**environment, Env.NAMESPACE: site.namespace, "KUBECONFIG": os.environ["KUBECONFIG"]}


@pytest.mark.cluster
def test_on_a_real_cluster_it_explains_and_writes_nothing(
    site: Site, environment: dict[str, str], redis: Redis
) -> None:
    redis.lpush("sums", *["x"] * 400)

    code, said, wrong = run(on(site, environment), "sums", "--listen", "1")

    assert (code, wrong) == (0, "")
    assert said.startswith("sums, seen ")
    assert "queued    400 due\n" in said
    assert "outcome   2 -> 4 replicas, DemandRose\n" in said
    assert "It has decided nothing yet" in said
    assert site.get(f"deployment/{WORKERS}")["spec"]["replicas"] == 2
    assert "status" not in site.get("celery/sums")
    assert site.get("leases")["items"] == []


@pytest.mark.cluster
def test_a_pool_that_is_not_there_is_told_with_those_that_are(
    site: Site, environment: dict[str, str]
) -> None:
    code, said, wrong = run(on(site, environment), "summs")

    assert (code, said) == (1, "")
    assert wrong == f"no pool summs in namespace {site.namespace}: there are sums\n"
