"""Owns the Go programs of the cluster: one binary for all of Kubernetes, etcd, CoreDNS, the pause process.

Each lies in the cache under a key of its sources, its go.sum and the Go release, with one link
per name that it answers to. It refuses to know how the programs are started (`cluster`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from .commands import run, say
from .packages import go_program
from .places import SOURCES, State, cache, key_of, made_once


@dataclass(frozen=True, slots=True, kw_only=True)
class GoProgram:
    folder: str
    names: tuple[str, ...]
    usual: str
    """How long a cold build takes on two cores; most of it is skipped when Go's cache is warm."""
    package: str = "."
    """What is compiled: the folder's own program, or the `tool` of its go.mod."""
    root: Path = SOURCES

    @property
    def sources(self) -> Path:
        return self.root / self.folder

    @property
    def version_flag(self) -> str:
        """Kubernetes takes its version from the linker; without it the API says v0.0.0-master."""
        pinned = re.search(r"\bk8s\.io/kubernetes (v\S+)", (self.sources / "go.mod").read_text())
        return f"-X k8s.io/component-base/version.gitVersion={pinned[1]}" if pinned else ""


KUBERNETES = GoProgram(
    folder="kube",
    names=(
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
        "volume-provisioner",
        "remove-sandboxes",
    ),
    usual="6 to 10 min the first time, 1 min after a change",
)
ETCD = GoProgram(folder="etcd", names=("etcd",), usual="1 min")
"""Debian 12 has 3.4, which does not tell how far its watches are: Kubernetes 1.36 waits for that, and seconds
became minutes under load (`Too large resource version`)."""
DNS = GoProgram(folder="dns", names=("coredns",), usual="1 min")
PAUSE = GoProgram(folder="pause", names=("pause",), usual="5 s")
COMPOSE = GoProgram(
    folder="compose",
    names=("docker-compose",),
    usual="2 to 5 min the first time",
    package="github.com/docker/compose/v2/cmd",
)
"""No part of the cluster: the tests of compose.yaml run it. Debian's own is of 2021 and in Python."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    kubernetes: Path
    etcd: Path
    dns: Path
    pause: Path

    def remember(self, state: State) -> None:
        """Leave links for `status` and `down`, which must not compile what changed meanwhile."""
        state.programs.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            _point(state.programs / item.name, getattr(self, item.name))


def toolchain() -> Toolchain:
    """Build what is not built yet; where the programs are."""
    tools = Toolchain(*(built(program) for program in (KUBERNETES, ETCD, DNS, PAUSE)))
    _publish_kubectl(tools.kubernetes / "kubectl")
    return tools


def compose() -> Path:
    """The program of docker compose, built if it is not."""
    return built(COMPOSE) / COMPOSE.names[0]


def remembered(state: State) -> Toolchain | None:
    """The programs that the last `up` used, if they still exist."""
    links = [state.programs / item.name for item in fields(Toolchain)]
    if not all(link.exists() for link in links):
        return None
    return Toolchain(*(link.readlink() for link in links))


def built(program: GoProgram) -> Path:
    """The folder with the program's names, built if it is not there."""
    go = go_program()
    # Where its go.mod is: that may ask for another release than this machine's.
    release = run([go, "version"], cwd=program.sources)
    flags = f"-s -w {program.version_flag}".strip()
    key = key_of(program.sources, release, flags, *program.names)

    def compile_into(folder: Path) -> None:
        say(f"Building {program.folder} from its Go modules: {program.usual}")
        first, *others = program.names
        argv: list[str | Path] = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags]
        # No libc: the pause process runs in an image that has none.
        run([*argv, "-o", folder / first, program.package], cwd=program.sources, env={"CGO_ENABLED": "0"})
        for name in others:
            (folder / name).symlink_to(first)

    return made_once(cache() / "programs" / f"{program.folder}-{key}", compile_into)


def _publish_kubectl(built: Path) -> None:
    """A path that stays the same: `<cache>/bin/kubectl`."""
    link = cache() / "bin" / "kubectl"
    link.parent.mkdir(parents=True, exist_ok=True)
    _point(link, built)


def _point(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    # By a rename: whoever runs it at this moment finds the old program or the new one.
    unfinished = link.with_name(f".{link.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(target)
    unfinished.rename(link)
