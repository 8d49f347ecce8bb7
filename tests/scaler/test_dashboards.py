"""Dashboard and alerts ask for what a scaler really has: held to the /metrics of one that has lived."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from demo import metrics_page
from scaler.contract import HTTP_PORT, SCALER_NAME
from tests.scaler.shown import Shown

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards"
NAME = r"\bcelery_[a-z_]+"
ADDED = {"namespace"}
"""Labels that Prometheus adds."""
Labels = dict[str, set[str]]


@pytest.fixture
async def live() -> Labels:
    """Name of each sample to the labels that it has, as /metrics tells them."""
    shown = Shown()
    await shown.live()
    async with (
        shown.served() as url,
        aiohttp.ClientSession(url) as session,
        session.get("/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    found: Labels = {}
    for line in lines:
        if not line.startswith("#"):
            sample = re.match(r"(\w+)(?:\{(.*)\})? ", line)
            assert sample, line
            found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((FOLDER / "celery-fleet.json").read_text())
    return board


def queries() -> Iterator[str]:
    board = dashboard()
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["expr"] for each in board["annotations"]["list"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            # label_values(name, label) is Grafana's own.
            yield re.sub(r"label_values\((.+), (\w+)\)", r"count by (\2) (\1)", variable["query"]["query"])


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(expression: str, live: Labels) -> None:
    """Every metric that it names is there, with the labels that it chooses by or groups by."""
    names = set(re.findall(NAME, expression))
    assert names, expression
    assert names <= live.keys(), names - live.keys()
    for name, chosen in re.findall(rf"({NAME})\{{([^}}]*)\}}", expression):
        assert set(re.findall(r"(\w+)\s*=", chosen)) <= live[name] | ADDED, (name, chosen)
    known = ADDED.union(*(live[name] for name in names))
    for grouped in re.findall(r"\b(?:by|ignoring|on|group_left)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known, (expression, grouped)


def test_the_dashboard_s_queries_ask_for_what_is_there(live: Labels) -> None:
    for query in queries():
        check(query, live)


def test_the_dashboard_shows_every_metric(live: Labels) -> None:
    """A metric that nobody looks at need not be there; one that is new is easily forgotten here."""
    shown = {name for query in queries() for name in re.findall(NAME, query)}
    beside_histograms = {name for name in live if name.endswith(("_created", "_sum", "_count"))}

    assert live.keys() - shown - beside_histograms - {"celery_active_worker_count"} == set()


def test_the_dashboard_opens_without_edits() -> None:
    """No data source and no identity of somebody's own; every panel takes the one that is chosen."""
    board = dashboard()
    sources = [panel["datasource"] for panel in board["panels"] if panel["type"] != "row"]
    sources += [target["datasource"] for panel in board["panels"] for target in panel.get("targets", ())]

    assert (board["id"], board["uid"]) == (None, None)
    assert "__inputs" not in board
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "namespace", "pool"]
    assert {json.dumps(source, sort_keys=True) for source in sources} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_dashboard_keeps_stacks_apart() -> None:
    """By the label of their namespace; `.*` also matches where Prometheus adds none."""
    namespace = dashboard()["templating"]["list"][1]
    for query in queries():
        if query == "count by (namespace) (celery_fleet_ready)":
            continue
        assert re.findall(NAME, query) == re.findall(rf'({NAME})\{{namespace=~"\$namespace"', query), query
        assert not re.search(r"\b(?:sum by|on) \((?:pool|queue_name)", query), query
    legends = [
        target.get("legendFormat", "")
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]
    told = [legend for legend in legends if "{{pool}}" in legend or "{{queue_name}}" in legend]

    assert told
    assert all(legend.startswith("{{namespace}} ") for legend in told)
    assert namespace["allValue"] == ".*"


def test_the_dashboard_s_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        across = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in across for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_s_queries_are_promql(tmp_path: Path) -> None:
    """As Prometheus itself parses them, with Grafana's variables filled in."""
    filled = [
        query.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$pool", ".*")
        for query in queries()
    ]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(filled)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_asks_for_what_is_there(alert: dict[str, Any], live: Labels) -> None:
    check(alert["expr"], live)
    spoken = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
    labels = ADDED.union(*(live[name] for name in re.findall(NAME, alert["expr"])))
    assert spoken <= labels
    assert alert["labels"]["severity"] in ("warning", "critical")


def test_every_alert_fires_where_it_has_to_and_only_there() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(FOLDER / "alerts_test.yaml"))


def test_every_alert_is_tested_both_ways() -> None:
    """Once with an expected alert; and once, or beside another series, without."""
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    cases = [case for each in tests for case in each["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}

    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    beside = {
        case["alertname"]
        for each in tests
        for case in each["alert_rule_test"]
        if len(each["input_series"]) > 2
    }
    assert quiet | beside == names


def test_docs_metrics_md_says_how_prometheus_gets_there(tmp_path: Path) -> None:
    """A configuration that Prometheus takes, for the pod and the port of the scaler."""
    block = metrics_page.PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "prometheus.yaml"
    discovery = "kubernetes_sd_configs: [{role: pod}]"
    assert discovery in block
    # Debian builds Prometheus without the discovery in Kubernetes: the rest is checked.
    path.write_text(block.replace(discovery, "static_configs: [{targets: [scaler:8080]}]"))
    (job,) = yaml.safe_load(block)["scrape_configs"]

    assert "SUCCESS" in promtool("check", "config", str(path))
    assert [rule.get("regex") for rule in job["relabel_configs"]] == [SCALER_NAME, str(HTTP_PORT), None]
    assert job["relabel_configs"][-1]["target_label"] in ADDED


async def test_docs_metrics_md_lists_them_all() -> None:
    """`python -m demo.metrics_page --write` mends it."""
    page = metrics_page.PAGE.read_text()

    assert await asyncio.to_thread(metrics_page.with_table, page) == page
