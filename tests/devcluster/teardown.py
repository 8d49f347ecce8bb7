"""Owns the way down: what `up` started and made is stopped and removed, and nothing else.

Pods go through the container runtime, since only it gives back their network namespaces,
addresses and rules; then the processes by their pid files, backwards; then what may be left in
the kernel. Each step looks at what is there, so `down` also ends a cluster that is half dead,
and a second `down` finds nothing to do. It builds nothing: it uses the programs of the last `up`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from . import holder, network, places
from .commands import DevclusterError, run, say, succeeds
from .components import components
from .packages import FOR_THE_CLUSTER, ensure, require_root
from .places import State, locked
from .processes import running, start, stop
from .toolchain import Toolchain, remembered

CGROUPS = Path("/sys/fs/cgroup")
# Hard-coded in the kubelet: links to the pods' logs for log collectors.
LOG_LINKS = Path("/var/log/containers")


def down(*, keep_state: bool) -> None:
    state = places.state()
    if not state.folder.exists():
        say("devcluster is down")
        return
    require_root()
    ensure(FOR_THE_CLUSTER)
    with locked("devcluster"):
        if holder.held_by_another(state) is None:
            say("Stopping devcluster: about 5 s")
            namespaces = _pod_networks(state)
            _stop_everything(state, remembered(state))
            _clean_the_kernel(state, namespaces)
            _remove_volatile(state)
        if not keep_state:
            shutil.rmtree(state.folder)


def _remove_volatile(state: State) -> None:
    if left := _mounts(state):
        # Removing the folder would remove what is mounted there, which may be anybody's.
        raise DevclusterError(f"These mounts could not be undone, so no file is removed: {left}")
    shutil.rmtree(state.volatile, ignore_errors=True)


def _stop_everything(state: State, tools: Toolchain | None) -> None:
    # The kubelet first: it would start again every pod that goes.
    for name in ("volume-provisioner", "coredns", "kubelet"):
        stop(state, name)
    if tools is not None:
        _remove_sandboxes(state, tools)
    # By what was started, not by what this version would start. The API server waits for the
    # watches of its clients, and etcd must hear its last words.
    last = ["kube-apiserver", "etcd"]
    started = sorted(file.stem for file in state.pids.glob("*.json"))
    for name in [*(one for one in started if one not in last), *last]:
        stop(state, name)
    for shim in _shims(state):
        _kill_with_children(shim)
    if tools is not None:
        succeeds([tools.kubernetes / "kube-proxy", "--cleanup"])


def _clean_the_kernel(state: State, namespaces: set[Path]) -> None:
    for point in _mounts(state):
        succeeds(["umount", "--lazy", point])
    for namespace in namespaces:
        # Gone, if its pod went in order. With it goes the pod's end of the link, and so the link.
        if namespace.exists() and succeeds(["umount", "--lazy", namespace]):
            namespace.unlink()
    network.remove_pod_chains()
    network.remove_service_chains()
    network.remove()
    _remove_cgroups()
    for link in LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(state.log):
            link.unlink()


def _remove_sandboxes(state: State, tools: Toolchain) -> None:
    if not (state.config / "containerd.toml").exists():
        return
    containerd = next(one for one in components(state, tools) if one.name == "containerd")
    if running(state, "containerd") is None:
        # Its shims outlive it, and it finds them again.
        state.volatile.mkdir(parents=True, exist_ok=True)
        start(state, containerd.command)
    deadline = time.monotonic() + 20
    while not containerd.is_well() and time.monotonic() < deadline:
        time.sleep(0.1)
    endpoint = f"--endpoint=unix://{state.containerd_socket}"
    try:
        run([tools.kubernetes / "remove-sandboxes", endpoint], timeout_seconds=120)
    except DevclusterError as trouble:
        say(f"Not every pod could be removed in order, so its processes are killed: {trouble}")


def _pod_networks(state: State) -> set[Path]:
    """The named network namespaces of all pods, from what runc was told at their start."""
    found = set()
    for spec in state.volatile.glob("io.containerd.runtime.v2.task/k8s.io/*/config.json"):
        namespaces = json.loads(spec.read_text())["linux"]["namespaces"]
        paths = [Path(one["path"]) for one in namespaces if one["type"] == "network" and "path" in one]
        found |= {path for path in paths if path.name.startswith("cni-")}
    return found


def _shims(state: State) -> Iterator[int]:
    """A shim is started with the socket of the containerd that it belongs to."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            # It ended while we looked.
            continue
        if Path(words[0]).name.startswith("containerd-shim") and str(state.containerd_socket) in words:
            yield int(entry.name)


def _kill_with_children(pid: int) -> None:
    """A shim's children are the first processes of containers; with those, the kernel kills all."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(number) for number in task.read_text().split()]
        except OSError:
            # The thread ended while we looked.
            continue
    for number in (*children, pid):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _mounts(state: State) -> list[str]:
    """Innermost first."""
    ours = tuple(f"{folder}/" for folder in (state.folder, state.volatile))
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    # The kernel writes a space as \040; no path of ours has one.
    return sorted((point for point in points if point.startswith(ours)), key=len, reverse=True)


def _remove_cgroups() -> None:
    roots = [*CGROUPS.glob("*/kubepods"), CGROUPS / "kubepods"]
    for root in (one for one in roots if one.is_dir()):
        folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            try:
                folder.rmdir()
            except OSError:
                # Its last process is still being reaped, or it is another kubelet's.
                continue
