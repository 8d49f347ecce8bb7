"""Owns the way down: what `up` started and made is stopped and removed, and nothing else.

Pods go through the container runtime, since only it gives back their network namespaces,
addresses and rules; then the processes by their pid files, backwards; then what may be left in
the kernel. Each step looks at what is there, so `down` also ends a cluster that is half dead,
and a second `down` finds nothing to do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from . import network, places
from .commands import DevclusterError, run, say, succeeds
from .components import components
from .packages import FOR_THE_CLUSTER, ensure, require_root
from .places import State, locked
from .processes import running, start, stop
from .toolchain import Toolchain, toolchain

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
    tools = toolchain()
    with locked("devcluster"):
        say("Stopping devcluster: about 10 s")
        _take_down(state, tools)
        if not keep_state:
            shutil.rmtree(state.folder)


def _take_down(state: State, tools: Toolchain) -> None:
    # The kubelet first: it would start again every pod that goes.
    for name in ("volume-provisioner", "coredns", "kubelet"):
        stop(state, name)
    _remove_sandboxes(state, tools)
    for component in reversed(components(state, tools)):
        stop(state, component.name)
    _end_leftover_shims(state)
    _unmount_all(state)
    _remove_rules(tools)
    network.remove()
    _remove_cgroups()
    for link in LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(state.log):
            link.unlink()
    shutil.rmtree(state.volatile, ignore_errors=True)


def _remove_sandboxes(state: State, tools: Toolchain) -> None:
    containerd = next(one for one in components(state, tools) if one.name == "containerd")
    if not (state.config / "containerd.toml").exists():
        return
    if running(state, "containerd") is None:
        # Its shims outlive it, and it finds them again.
        start(state, containerd.command)
    deadline = time.monotonic() + 20
    while not containerd.is_well() and time.monotonic() < deadline:
        time.sleep(0.1)
    endpoint = f"--endpoint=unix://{state.containerd_socket}"
    try:
        run([tools.kubernetes / "remove-sandboxes", endpoint], timeout_seconds=120)
    except DevclusterError as trouble:
        say(f"Not every pod could be removed in order, their processes are killed: {trouble}")


def _end_leftover_shims(state: State) -> None:
    """A shim names the socket of the containerd it belongs to; killing it kills its containers."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        is_shim = Path(words[0]).name.startswith("containerd-shim")
        if is_shim and str(state.containerd_socket) in words:
            _kill_tree(int(entry.name))


def _kill_tree(pid: int) -> None:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    for number in (*map(int, listed.stdout.split()), pid):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _unmount_all(state: State) -> None:
    ours = (str(state.folder), str(state.volatile))
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    # Innermost first. The kernel writes spaces as \040; no path of ours has one.
    for point in sorted(mounts, key=len, reverse=True):
        if point.startswith(tuple(f"{folder}/" for folder in ours)):
            run(["umount", "--lazy", point])


def _remove_rules(tools: Toolchain) -> None:
    succeeds([tools.kubernetes / "kube-proxy", "--cleanup"])
    # What the kubelet and kube-proxy's canaries leave, and the port mappings of our CNI network.
    for prefix in ("KUBE-", "CNI-"):
        network.remove_chains(prefix)


def _remove_cgroups() -> None:
    roots = [*CGROUPS.glob("*/kubepods"), CGROUPS / "kubepods"]
    for root in (one for one in roots if one.is_dir()):
        folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            try:
                folder.rmdir()
            except OSError:
                # Its last process is still being reaped; an empty group costs nothing.
                continue
