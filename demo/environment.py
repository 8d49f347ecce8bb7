"""Owns what must be there before anything of this project can run: Python, `.venv`, Debian packages.

`python3 -m demo.environment venv|packages` runs on a bare interpreter, the standard library only.
It refuses to guess: what it cannot install itself, it names with the command that does.
The packages of the cluster are `tests.devcluster.packages`' own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
REQUIREMENTS = ROOT / "requirements-dev.txt"

TEST_PROGRAMS = {"redis-server": "redis-server", "chromium": "chromium", "promtool": "prometheus"}
"""Real servers, a real browser and Prometheus' own checks, by the program and the Debian package of each."""


class Missing(Exception):  # noqa: N818  # the fact, not an error class among others
    """What is missing, what for, and the command that installs it."""


def main(action: str) -> int:
    try:
        if action == "venv":
            ensure_venv()
        else:
            ensure_packages()
    except Missing as missing:
        print(f"Missing: {missing}", file=sys.stderr)
        return 1
    return 0


def ensure_venv() -> None:
    """`.venv` with exactly what the requirements files ask for; nothing happens if it is so already."""
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(str(number) for number in OLDEST_PYTHON)
        raise Missing(
            f"Python {version} or later; this is {sys.version.split()[0]}. "
            "Ubuntu 22.04: apt-get install python3.11 python3.11-venv, then `make PYTHON=python3.11 …`"
        )
    with REQUIREMENTS.open() as lock:
        # Two `make` at the same time would install into the same folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = VENV / "requirements.sha256"
        wanted = _key()
        if _works(VENV / "bin" / "python") and stamp.is_file() and stamp.read_text() == wanted:
            return
        if not _works(VENV / "bin" / "python"):
            _create_venv()
        print("Installing the Python packages into .venv: about 1 min", flush=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--requirement", str(REQUIREMENTS)]).returncode != 0:
            raise Missing("the Python packages: pip failed as it says above; `make venv` tries again")
        stamp.write_text(wanted)


def ensure_packages() -> None:
    """The programs that tests and benchmarks start."""
    # devcluster knows how to install packages without starting the services they bring.
    from tests.devcluster.commands import DevclusterError
    from tests.devcluster.packages import ensure

    missing = sorted(name for name in TEST_PROGRAMS if shutil.which(name) is None)
    if missing and os.geteuid() != 0:
        packages = " ".join(TEST_PROGRAMS[name] for name in missing)
        raise Missing(f"{', '.join(missing)}: sudo apt-get install {packages}")
    try:
        ensure(TEST_PROGRAMS)
    except DevclusterError as error:
        raise Missing(str(error)) from error


def _create_venv() -> None:
    if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode != 0:
        # Debian splits ensurepip off, and python3 alone then makes an environment without pip.
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        command = f"apt-get install --yes {package}"
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Missing(f"Python's venv module: sudo {command}")
        print(f"Installing {package}: about 20 s", flush=True)
        subprocess.run(["apt-get", "update", "--quiet=2"])
        if subprocess.run(command.split(), stdout=subprocess.DEVNULL).returncode != 0:
            raise Missing(f"Python's venv module: {command}, which failed as it says above")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)


def _works(python: Path) -> bool:
    # A copied or moved checkout has an environment that points to where it was.
    return python.exists() and subprocess.run([str(python), "-c", ""], capture_output=True).returncode == 0


def _key() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in _with_included(REQUIREMENTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _with_included(path: Path) -> list[Path]:
    included = re.findall(r"^-r\s+(\S+)", path.read_text(), re.MULTILINE)
    return [path, *(deeper for name in included for deeper in _with_included(path.parent / name))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
