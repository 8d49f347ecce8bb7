"""Owns what must be on the machine beforehand: root, a Debian or Ubuntu, its packages, Go.

Packages are asked for by the program they bring, not by name: where Docker's own `containerd.io`
is installed, Debian's `containerd` would replace it. Services that packages would start are kept
from starting, since devcluster runs its own and the user's must not be disturbed.
It refuses to install Go: `toolchain` uses the one it finds here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .commands import DevclusterError, run, say

CNI_PLUGINS = Path("/usr/lib/cni")

FOR_THE_CLUSTER: Mapping[str, str] = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    str(CNI_PLUGINS / "ptp"): "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
}
FOR_IMAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    # Ubuntu has none by default, and the packages of the bases are Debian's.
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}

FOR_COMPOSE: Mapping[str, str] = {"dockerd": "docker.io", "docker-proxy": "docker.io"}

# The oldest `go` that fetches the toolchain a go.mod asks for by itself.
OLDEST_GO = (1, 21)
# /usr/sbin holds ip and iptables and is on root's PATH only after a login as root;
# /usr/local/go is where Go's own archive is unpacked to.
ALSO_SEARCHED = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin")


def search_path() -> str:
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*known, *(place for place in ALSO_SEARCHED if place not in known)])


def require_root() -> None:
    if os.geteuid() != 0:
        raise DevclusterError(
            "devcluster makes network devices, mounts and cgroups and so needs root: "
            'run `sudo -E env "PATH=$PATH" python3 -m tests.devcluster up`'
        )


def go_program() -> Path:
    found = shutil.which("go", path=search_path())
    advice = (
        "devcluster compiles Kubernetes and needs Go {}.{} or later: `apt-get install golang-go` "
        "on Debian 13 or Ubuntu 24.04 and later, elsewhere https://go.dev/doc/install"
    ).format(*OLDEST_GO)
    if found is None:
        raise DevclusterError(f"Go is not installed. {advice}")
    version = run([found, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}).strip()
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_GO:
        raise DevclusterError(f"The Go at {found} is {version}. {advice}")
    return Path(found)


def ensure(programs: Mapping[str, str]) -> None:
    """Install the packages of those programs that are not there."""
    os.environ["PATH"] = search_path()
    missing = sorted({package for program, package in programs.items() if not _there(program)})
    if not missing:
        return
    require_root()
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise DevclusterError(
            "devcluster knows Debian and Ubuntu only, and this machine has no apt-get. "
            f"There it would run: {command}"
        )
    say(f"Installing Debian packages ({', '.join(missing)}): about 1 min")
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    with _services_kept_from_starting():
        try:
            run([*command.split(), "--yes"], env=quiet)
        except DevclusterError:
            # A fresh machine has no package lists, an old one has outdated ones.
            run(["apt-get", "update"], env=quiet)
            run([*command.split(), "--yes"], env=quiet)
    still = sorted(program for program in programs if not _there(program))
    if still:
        raise DevclusterError(f"{command} ran, and there is still no {', '.join(still)}")


def _there(program: str) -> bool:
    return shutil.which(program) is not None or Path(program).is_file()


@contextmanager
def _services_kept_from_starting() -> Iterator[None]:
    """Debian policy: invoke-rc.d asks this file, and exit code 101 forbids the start."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
