"""Owns the order of things in one `up`, and what counts as healthy.

`up` compares what should run with what does and touches only the difference: a process that is
gone, unwell, or was started with other flags or files is started again, the others are left
alone. So the same words bring a cluster up, mend it after a kill and find it after a reboot.
Every wait has a deadline, and ends in the tail of the guilty log. The way down is `teardown`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import holder, network, node_images, pki, places
from .addons import manifest
from .commands import DevclusterError, run, say
from .components import Component, components
from .configuration import render
from .packages import FOR_THE_CLUSTER, ensure, require_root
from .places import State, key_of, locked, write_if_changed
from .processes import log_file, log_tail, running, start, stop
from .toolchain import Toolchain, remembered, toolchain

# How long a process that runs may take to say that it is well before it is started again.
PATIENCE_SECONDS = 10.0
NODE_DEADLINE_SECONDS = 90.0


def up() -> Path:
    """The path of the kubeconfig of a cluster that is ready for pods."""
    require_root()
    ensure(FOR_THE_CLUSTER)
    tools = toolchain()
    state = places.state()
    with locked("devcluster"):
        _bring_up(state, tools)
    return state.kubeconfig


def _bring_up(state: State, tools: Toolchain) -> None:
    began = time.monotonic()
    holder.claim(state)
    tools.remember(state)
    pki.ensure(state)
    for path, content in render(state).items():
        # Most of them carry a private key.
        write_if_changed(path, content, mode=0o600)
    if not network.is_ready():
        network.ensure()
    wanted = components(state, tools)
    lacking = [component for component in wanted if not _is_as_wanted(state, component)]
    if lacking:
        names = ", ".join(component.name for component in lacking)
        say(f"Starting {names}: about 10 s")
    _start_all(state, (component for component in lacking if not component.needs_api))
    node_images.ensure_pause(state, tools.pause / "pause")
    _apply_addons(state, tools)
    since = datetime.now(UTC).replace(microsecond=0)
    _start_all(state, (component for component in lacking if component.needs_api))
    fresh_kubelet = any(component.name == "kubelet" for component in lacking)
    _wait_for_node(state, tools, reported_since=since if fresh_kubelet else None)
    if lacking:
        say(f"devcluster is ready after {time.monotonic() - began:.0f} s")


def status() -> tuple[bool, list[str]]:
    """Whether all is well, and one line per component."""
    state = places.state()
    tools = remembered(state)
    if tools is None or not state.kubeconfig.exists():
        return False, ["devcluster is down: `python -m tests.devcluster up` brings it up"]
    require_root()
    lines = []
    healthy = True
    for component in components(state, tools):
        record = running(state, component.name)
        if record is None:
            verdict = "not running"
        elif not component.is_well():
            verdict = f"pid {record.pid}, unwell, see {log_file(state, component.name)}"
        elif record.fingerprint != component.command.fingerprint:
            verdict = f"pid {record.pid}, well, but outdated: `up` restarts it"
        else:
            verdict = f"pid {record.pid}, well"
        healthy = healthy and verdict.endswith("well") and not verdict.endswith("unwell")
        lines.append(f"{component.name:<24} {verdict}")
    network_verdict = "well" if network.is_ready() else f"{network.BRIDGE} or its rules are missing"
    node = _node(state, tools)
    ready = node is not None and _ready_condition(node)["status"] == "True"
    lines += [f"{'network':<24} {network_verdict}", f"{'node':<24} {'Ready' if ready else 'not Ready'}"]
    return healthy and ready and network_verdict == "well", lines


def _is_as_wanted(state: State, component: Component) -> bool:
    record = running(state, component.name)
    if record is None or record.fingerprint != component.command.fingerprint:
        return False
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not component.is_well():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _start_all(state: State, lacking: Iterable[Component]) -> None:
    batch = list(lacking)
    for component in batch:
        stop(state, component.name)
        start(state, component.command)
    for component in batch:
        _wait_until_well(state, component)


def _wait_until_well(state: State, component: Component) -> None:
    deadline = time.monotonic() + component.deadline_seconds
    starts = 1
    while True:
        # Well first: the port may be answered by somebody else's process while ours is dead.
        well = component.is_well()
        if running(state, component.name) is None:
            if starts == component.starts:
                problem = "ended right after its start"
                break
            time.sleep(1)
            start(state, component.command)
            starts += 1
            continue
        if well:
            return
        if time.monotonic() > deadline:
            problem = f"did not become healthy within {component.deadline_seconds:.0f} s"
            break
        time.sleep(0.1)
    raise DevclusterError(
        f"{component.name} {problem}. The end of {log_file(state, component.name)}:\n"
        f"{log_tail(state, component.name)}"
    )


def _apply_addons(state: State, tools: Toolchain) -> None:
    objects = manifest()
    applied = state.folder / "addons-applied"
    if applied.exists() and applied.read_text() == key_of(objects):
        return
    arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"]
    run([*_kubectl(state, tools), *arguments], stdin=objects, timeout_seconds=60)
    applied.write_text(key_of(objects))


def _wait_for_node(state: State, tools: Toolchain, *, reported_since: datetime | None) -> None:
    """Ready as told by this kubelet: the word of one that died stands for 40 s."""
    deadline = time.monotonic() + NODE_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        node = _node(state, tools)
        if node is not None:
            condition = _ready_condition(node)
            told = condition.get("lastHeartbeatTime", "1970-01-01T00:00:00Z")
            is_news = reported_since is None or datetime.fromisoformat(told) >= reported_since
            untouchable = any(
                taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints", [])
            )
            if condition["status"] == "True" and is_news and not untouchable:
                return
        time.sleep(0.2)
    raise DevclusterError(
        f"The node did not become Ready within {NODE_DEADLINE_SECONDS:.0f} s. The end of "
        f"{log_file(state, 'kubelet')}:\n{log_tail(state, 'kubelet')}"
    )


def _node(state: State, tools: Toolchain) -> dict[str, Any] | None:
    """The Node, once the controllers have also made what every pod needs beside it."""
    arguments = ["get", f"node/{pki.NODE_NAME}", "serviceaccount/default", "--namespace=default"]
    try:
        text = run([*_kubectl(state, tools), *arguments, "--output=json"], timeout_seconds=15)
    except DevclusterError:
        return None
    found: dict[str, Any] = json.loads(text)["items"][0]
    return found


def _ready_condition(node: dict[str, Any]) -> dict[str, str]:
    unknown = {"type": "Ready", "status": "Unknown"}
    conditions = node["status"].get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready"), unknown)


def _kubectl(state: State, tools: Toolchain) -> list[str | Path]:
    return [tools.kubernetes / "kubectl", f"--kubeconfig={state.kubeconfig}"]
