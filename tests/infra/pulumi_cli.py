"""The real `pulumi`, in a folder of a test's own: state, passphrase and stack files never meet the user's.

It owns the folder's shape, which is the checkout's with a program of the test's, and the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from demo.engine import program_found

ROOT = Path(__file__).parents[2]


class PulumiProject:
    """A project with an empty stack `here`; skips the test where there is no CLI."""

    def __init__(self, folder: Path, program: str, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._program = program
        self._environment = environment

    @classmethod
    def make(cls, folder: Path, main: str, **environment: str) -> Self:
        """`main` is the program's text."""
        program = program_found()
        if program is None:
            pytest.skip("there is no pulumi CLI")
        for name in ("state", "stacks"):
            (folder / name).mkdir()
        for name in ("infra", "scaler"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        (folder / "__main__.py").write_text(main)
        made = cls(folder, program, environment)
        made.pulumi("stack", "init", "here")
        return made

    def pulumi(self, *arguments: str, succeeds: bool = True) -> str:
        """What it printed, on both streams."""
        environment = {
            **os.environ,
            # A CLI of the demo's own finds its language plugin beside itself.
            "PATH": f"{Path(self._program).parent}{os.pathsep}{os.environ['PATH']}",
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            **self._environment,
        }
        done = subprocess.run(
            [self._program, "--non-interactive", "--color=never", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) == succeeds, done.stdout
        return done.stdout
