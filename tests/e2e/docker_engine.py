"""Owns a Docker engine of the tests' own: its data, socket and processes are in one folder, gone with it.

It makes no rule of iptables, no bridge until somebody asks for a network, and takes its networks' addresses
where devcluster has none: both run side by side. It starts and stops its own process only.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from tests.devcluster.packages import FOR_COMPOSE, ensure, search_path

ADDRESSES: Final = "base=10.246.0.0/16,size=24"
START_SECONDS: Final = 60


class DockerEngine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.host = f"unix://{folder}/sock"

    def __enter__(self) -> Self:
        ensure(FOR_COMPOSE)
        program = shutil.which("dockerd", path=search_path())
        assert program
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        options = [f"--{option}={self._folder}/{name}" for option, name in places.items()]
        options += [f"--host={self.host}", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        # A sandboxed machine may withhold what it takes to lower the score.
        options += ["--ip-forward=false", "--ip-masq=false", "--oom-score-adjust=0"]
        options += [f"--default-address-pool={ADDRESSES}"]
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen([program, *options], stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + START_SECONDS
        while self.docker("info", check=False).returncode:
            running = self._process.poll() is None and time.monotonic() < deadline
            assert running, f"dockerd did not start: {(self._folder / 'log').read_text()[-3000:]}"
            time.sleep(0.2)
        return self

    def __exit__(self, *_error: object) -> None:
        # The bridges of networks would outlive the engine.
        if containers := self.docker("ps", "--all", "--quiet", check=False).stdout.split():
            self.docker("rm", "--force", *containers, check=False)
        self.docker("network", "prune", "--force", check=False)
        self._process.terminate()
        self._process.wait(60)
        self._log.close()
        for mount in self._mounts():
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(self._folder)

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["docker", "--host", self.host, *words], capture_output=True, text=True)
        assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done

    def _mounts(self) -> list[str]:
        found = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return sorted((path for path in found if path.startswith(f"{self._folder}/")), reverse=True)
