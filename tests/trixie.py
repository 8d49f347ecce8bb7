"""Servers of Debian trixie on an older Debian: processes on loopback, in a root file system of their own.

Debian 12 has RabbitMQ 3.10 and no Valkey. The packages are unpacked by mmdebstrap, once, into the project's
cache; no maintainer script runs and nothing is installed on the machine. A server gets name spaces for its
mounts and processes, so that what it starts ends with it, and sees of the machine one folder of the test's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.devcluster import places
from tests.devcluster.commands import run, say
from tests.devcluster.packages import FOR_IMAGES, ensure, require_root

SUITE = "trixie"
PACKAGES = ("rabbitmq-server", "valkey-server", "busybox", "libc-bin", "base-files", "netbase")
DATA = "/data"
"""Where the test's folder is to the server."""
USER = 999
STOP_SECONDS = 20


def root() -> Path:
    """The root file system; made in 15 s where it is not there yet."""
    key = places.key_of(SUITE, *PACKAGES, Path(__file__))
    folder = places.cache() / f"{SUITE}-servers-{key}"
    if not folder.exists():
        require_root()
        ensure(FOR_IMAGES)
        say("Unpacking RabbitMQ and Valkey of Debian trixie for the tests: about 15 s")
    return places.made_once(folder, _make)


def _make(folder: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    run(["mmdebstrap", "--variant=extract", "--format=directory", include, SUITE, folder])
    run(["chroot", folder, "/usr/bin/busybox", "--install", "-s", "/usr/bin"])
    run(["chroot", folder, "/usr/sbin/ldconfig"])
    for name in ("dev", "proc", DATA.removeprefix("/")):
        (folder / name).mkdir(exist_ok=True)
    (folder / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\nserver:x:{USER}:{USER}::{DATA}:/bin/sh\n")
    (folder / "etc/group").write_text(f"root:x:0:\nserver:x:{USER}:\n")
    (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")


@dataclass(slots=True)
class Server:
    """One process in that file system, as an unprivileged user, with `folder` as its /data."""

    folder: Path
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        place = root()
        for path in (self.folder, *self.folder.rglob("*")):
            shutil.chown(path, USER, USER)
        inside = ["chroot", f"--userspec={USER}:{USER}", place, "/usr/bin/env", "-i", f"HOME={DATA}"]
        inside += ["PATH=/usr/sbin:/usr/bin", *(f"{name}={value}" for name, value in environment.items())]
        mounts = [
            ["mount", "--bind", self.folder, f"{place}{DATA}"],
            ["mount", "-t", "proc", "proc", place / "proc"],
            ["mount", "--rbind", "/dev", place / "dev"],
            ["exec", *inside, *command],
        ]
        script = " && ".join(shlex.join(str(word) for word in line) for line in mounts)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """To the server itself, of which `unshare` is the parent."""
        assert self._process is not None
        parent = self._process.pid
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            os.kill(int(child), number)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._process = process
        try:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait(STOP_SECONDS)
        finally:
            self._process = None
