"""The page's JSON: the contract of its fields, what is unknown, what is logged, and what is never in it."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scaler.contract import Policy, policy_of
from scaler.web import documents
from scaler.web.board import LEAST_ENTRIES, MOST_ENTRIES, Board
from scaler.web.commands import commands
from scaler.web.links import Links, link_of, prefix_of
from tests.scaler.samples import AT, policy, spec
from tests.scaler.shown import Shown
from tests.scaler.stage import AT_ONCE

ROOT = Path(__file__).parents[2]
NO_LINKS = Links()
HEAD = {
    "namespace", "stack", "at", "tickSeconds", "pollSeconds", "nextPollAt", "staleAfterSeconds", "goodAt",
    "trouble", "leading", "broker", "links",
}  # fmt: skip
ROW = {
    "name", "state", "queues", "mode", "paused", "ready", "problem", "reason", "message", "limited", "queued",
    "queuedAtLeast", "unacked", "active", "notDue", "nextDueAt", "stranded", "demand", "demandAtLeast",
    "demandAtMost", "capacity", "replicas", "readyReplicas", "specReplicas", "desiredReplicas", "minReplicas",
    "maxReplicas", "draining", "arrivalsPerSecond", "begunPerSecond", "otherScaler", "lastScaleAt",
}  # fmt: skip
POOL = ROW | {
    "deployment", "averageValue", "concurrency", "drainSeconds", "shadow", "calmSince", "leaving",
    "drainReason", "drainMessage", "steps", "commands",
}  # fmt: skip
ENTRY = {
    "number", "at", "state", "ready", "reason", "message", "specReplicas", "desiredReplicas", "leaving",
    "scaled", "shadow", "steps",
}  # fmt: skip


def pool(shown: Shown, name: str = "sums", since: float | None = None) -> dict[str, Any]:
    """As a reader gets it."""
    found = documents.pool(shown.board, NO_LINKS, shown.board.pools[name], since=since)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return decoded


async def test_the_fields_are_these() -> None:
    """A script of somebody else's reads them: none is renamed or dropped by accident."""
    shown = Shown()
    shown.cluster.add()
    shown.broker.lengths["sums"] = 900
    await shown.tick()
    found = pool(shown)

    assert set(found) == HEAD | {"pool", "log", "history"}
    assert set(found["pool"]) == POOL
    assert set(documents.row(shown.board.pools["sums"])) == ROW
    assert [set(entry) for entry in found["log"]] == [ENTRY]
    assert set(found["pool"]["steps"][0]) == {"rule", "before", "after", "figures", "sentence"}
    assert set(found["broker"]) == {"up", "message", "readSeconds", "slowestReadSeconds"}


def documented() -> dict[str, set[str]]:
    """The words of docs/page.md's table: of the document, of a pool, and of what has a row of its own."""
    found: dict[str, set[str]] = {"head": set(), "pool": set()}
    table = (ROOT / "docs" / "page.md").read_text().partition("| field | meaning |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        _, fields, meaning, _ = line.split("|")
        names = re.findall(r"`([^`]+)`", fields)
        found["pool"] |= {name[1:] for name in names if name.startswith(".")}
        found["head"] |= {name for name in names if not name.startswith(".")}
        found[" ".join(names)] = set(re.findall(r"`(\w+)`", meaning))
    return found


async def test_the_page_s_table_has_every_field_and_no_other() -> None:
    shown = Shown()
    shown.cluster.add()
    await shown.tick()
    page, found = documented(), pool(shown)

    assert page["head"] == HEAD | {"pools[]", "pool", "log", "history"}
    assert page["pool"] == POOL | {"spark"}
    assert page["log"] == ENTRY | {"from", "to"}
    assert page["broker"] == set(found["broker"])
    assert page["namespace stack links"] == {"links"} | set(found["links"])
    assert page["history"] == set(found["history"]) | {"from", "to"}
    assert page[".steps .commands"] == set(found["pool"]["steps"][0]) | set(found["pool"]["commands"][0])


async def test_figures_are_those_of_the_tick() -> None:
    shown = Shown()
    shown.cluster.add()
    shown.broker.lengths["sums"] = 900
    await shown.tick()
    found = pool(shown)

    assert {name: found["pool"][name] for name in ("queued", "unacked", "demandAtLeast", "demandAtMost")} == {
        "queued": 900,
        "unacked": 0,
        "demandAtLeast": 900,
        "demandAtMost": 904,
    }
    replicas = ("specReplicas", "readyReplicas", "desiredReplicas", "minReplicas", "maxReplicas")
    assert [found["pool"][name] for name in replicas] == [2, 2, 9, 2, 10]
    assert (found["at"], found["goodAt"], found["nextPollAt"]) == (AT + 2, AT + 2, AT + 4)
    assert found["log"][0]["scaled"] == {"from": 2, "to": 9}
    assert found["log"][0]["steps"][-1]["after"] == 9


async def test_unknown_is_null_and_never_zero() -> None:
    """A broker that is away: the figures go, the replicas stay, and both say why."""
    shown = Shown()
    shown.cluster.add()
    shown.broker.lengths["sums"] = 900
    await shown.tick()
    shown.broker.goes_away()
    await shown.tick()
    found = pool(shown)

    unknown = ("queued", "unacked", "notDue", "stranded", "demand", "demandAtLeast", "demandAtMost")
    assert [found["pool"][name] for name in unknown] == [None] * 7
    assert [found["pool"][name] for name in ("arrivalsPerSecond", "begunPerSecond")] == [None, None]
    assert found["pool"]["state"] == "Hold"
    assert found["pool"]["problem"] == found["trouble"] == "Redis at redis:6379/0 cannot be reached"
    assert found["broker"]["up"] is False
    assert (found["goodAt"], found["at"]) == (AT + 2, AT + 4)
    assert found["history"]["demand"] == [900, None]


async def test_a_pool_without_a_deployment_says_what_is_wrong() -> None:
    shown = Shown()
    shown.cluster.add()
    del shown.cluster.deployments["sums-celery-worker"]
    await shown.tick()
    found = pool(shown)["pool"]

    assert (found["state"], found["ready"], found["reason"]) == (
        "Hold",
        "DeploymentNotFound",
        "DeploymentNotFound",
    )
    assert [found[name] for name in ("specReplicas", "desiredReplicas", "queued")] == [None] * 3
    assert found["steps"] == []


async def test_only_what_is_new_follows() -> None:
    shown = Shown()
    shown.cluster.add()
    await shown.tick()
    shown.broker.lengths["sums"] = 900
    await shown.tick()
    found = pool(shown, since=AT + 2)

    assert found["history"]["at"] == [AT + 4]
    assert [entry["at"] for entry in found["log"]] == [AT + 4]


async def test_the_log_holds_decisions_that_changed_something() -> None:
    """A line for the flood, for its end, for who leaves and for the step; none for what only lasts."""
    shown = Shown()
    shown.cluster.add(behavior=AT_ONCE)
    await shown.tick(3)
    shown.broker.lengths["sums"] = 850
    await shown.tick(5)
    shown.broker.lengths["sums"] = 840
    await shown.tick(5)
    shown.broker.lengths["sums"] = 0
    await shown.tick(10)
    log = [
        (entry["reason"], entry["scaled"], len(entry["leaving"])) for entry in reversed(pool(shown)["log"])
    ]

    assert log == [
        ("AtMinimum", None, 0),
        ("DemandRose", {"from": 2, "to": 9}, 0),
        ("DemandMet", None, 0),
        ("AtMinimum", None, 7),
        ("AtMinimum", {"from": 9, "to": 2}, 7),
    ]


async def test_the_hour_has_all_its_scalings_though_the_log_has_not() -> None:
    """With many pools a log keeps four entries of each; the chart promises the hour."""
    shown = Shown()
    for number in range(1000):
        shown.cluster.add(f"pool-{number}", behavior=AT_ONCE)
    for number in range(2 * LEAST_ENTRIES):
        shown.broker.lengths["pool-0"] = 200 + 100 * number
        await shown.tick()
    found = pool(shown, "pool-0")

    assert len(found["log"]) == LEAST_ENTRIES
    assert found["history"]["scaled"] == {
        "at": [AT + 4 + 2 * number for number in range(2 * LEAST_ENTRIES - 1)],
        "from": list(range(2, 9)),
        "to": list(range(3, 10)),
    }
    assert pool(shown, "pool-0", since=AT + 14)["history"]["scaled"] == {
        "at": [AT + 16],
        "from": [8],
        "to": [9],
    }


@pytest.mark.parametrize(
    ("pools", "most"),
    [pytest.param(1, MOST_ENTRIES, id="one pool"), pytest.param(900, LEAST_ENTRIES, id="many pools")],
)
async def test_a_pool_that_flaps_keeps_its_newest_decisions(pools: int, most: int) -> None:
    shown = Shown()
    for number in range(pools):
        shown.cluster.add(f"pool-{number}", mode="shadow", behavior=AT_ONCE)
    for number in range(2 * most):
        shown.broker.lengths["pool-0"] = 900 * (number % 2)
        await shown.tick()
    log = pool(shown, "pool-0")["log"]

    assert len(log) == most
    assert [entry["number"] for entry in log] == list(range(2 * most, most, -1))


def test_a_board_before_its_first_tick_knows_nothing() -> None:
    found = documents.fleet(Board("shop", 2.0), NO_LINKS, [])

    assert (found["at"], found["goodAt"], found["broker"]["up"], found["pools"]) == (None, None, None, [])


DEV = " --stack dev"


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        pytest.param("", {}, f"set{DEV} maxReplicas 20 && pulumi up{DEV}", id="the flat keys"),
        pytest.param(
            "pools.default", {}, f"set{DEV} --path pools.default.maxReplicas 20", id="pools.default"
        ),
        pytest.param("pools.mail", {}, f"--path pools.mail.paused true && pulumi up{DEV}", id="a named one"),
        pytest.param("pools.mail", {"paused": True}, "pools.mail.paused false", id="a paused pool goes on"),
        pytest.param("pools.mail", {}, "pools.mail.mode shadow", id="an active pool may be watched"),
        pytest.param("pools.mail", {"mode": "shadow"}, "pools.mail.mode active", id="one in shadow may act"),
        pytest.param("pools.mail_eu", {}, "--path pools.mail_eu.paused true", id="named as its queue"),
        pytest.param('pools["a.b"]', {}, """--path 'pools["a.b"].paused' true""", id="a name with a dot"),
        pytest.param("", {}, "kubectl describe celery mail -n shop", id="a closer look"),
    ],
)
def test_commands_do_what_they_say(settings: str, changes: dict[str, Any], words: str) -> None:
    """On this stack, whichever one is selected, and where its configuration has the pool's settings."""
    given: Policy = policy_of(spec(**changes)) if changes else policy()
    lines = [each["command"] for each in commands("shop", "mail", given, stack="dev", settings=settings)]

    assert any(words in line for line in lines), lines
    assert all(shlex.split(line) for line in lines)


def test_an_object_that_pulumi_did_not_make_has_no_command_of_pulumi() -> None:
    found = commands("shop", "default", policy())

    assert [each["what"] for each in found] == [
        "Explain the decision",
        "Conditions and events",
        "Workers' log",
        "Pause with kubectl",
    ]
    assert not any("pulumi" in each["command"] for each in found)


def test_a_scaler_that_knows_no_stack_names_none() -> None:
    lines = [each["command"] for each in commands("shop", "mail", policy(), settings="")]

    assert "pulumi config set paused true && pulumi up" in lines


async def test_the_object_says_where_its_settings_are() -> None:
    """As soon as it says something else: no tick decides anything for that."""
    shown = Shown()
    shown.cluster.add("default")
    await shown.tick()
    before = pool(shown, "default")["pool"]["commands"]
    shown.cluster.celeries["default"] = replace(shown.cluster.celeries["default"], settings="")
    await shown.tick()
    after = pool(shown, "default")["pool"]["commands"]

    assert "pulumi config set --path pools.default.paused true && pulumi up" in [
        each["command"] for each in before
    ]
    assert "pulumi config set paused true && pulumi up" in [each["command"] for each in after]


def test_a_pool_whose_spec_was_never_valid_has_commands_that_read_only() -> None:
    assert [each["what"] for each in commands("shop", "mail", None)] == [
        "Explain the decision",
        "Conditions and events",
    ]


@pytest.mark.parametrize(
    ("text", "prefix"), [("", ""), ("/", ""), ("fleet", "/fleet"), ("/a/b/", "/a/b"), (" /x ", "/x")]
)
def test_a_prefix_is_read_as_people_write_it(text: str, prefix: str) -> None:
    assert prefix_of(text) == prefix


@pytest.mark.parametrize("text", ["a b", "/a//b", "/a?b", "http://host/a", "/{name}", "/a\n"[:3] + "\\"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a path"):
        prefix_of(text)


@pytest.mark.parametrize(
    "text",
    ["flower:5555", "javascript:alert(1)", "ftp://x/", "http://", "http://[", "http://u:secret@flower/"],
)
def test_a_link_is_a_web_address_without_credentials(text: str) -> None:
    with pytest.raises(ValueError, match="must ") as refused:
        link_of(text)
    assert "secret" not in str(refused.value)
    assert link_of(" https://flower.example/x ") == "https://flower.example/x"
    assert link_of("") is None
