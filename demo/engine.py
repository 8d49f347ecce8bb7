"""Owns the deployment by the `pulumi` CLI: finding it, the stack's state, up and destroy.

State, passphrase and the stack's configuration with what this machine adds to it (images, cluster)
lie in the cache folder, so neither the user's Pulumi login nor the committed `stacks/` are touched:
`stack init` writes an encryption salt into the configuration file, and `stack rm` deletes it.
Nothing is downloaded without a line that says so. Where the engine cannot be had, `rendered` is the
other way; `story` chooses.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from demo.commands import DemoError, cache, run, say
from demo.environment import ROOT

STACK = "local"
STATE_FOLDER = "pulumi-demo"
INSTALL_SECONDS = 90
UP_SECONDS = 900
DESTROY_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One stack, with state and configuration of its own."""

    program: str
    folder: Path
    stack: str = STACK

    @property
    def _project(self) -> Path:
        return self.folder / "project"

    @property
    def config(self) -> Path:
        """The stack's configuration file: the committed one of `local`, and what was set here."""
        return self._project / "stacks" / f"Pulumi.{self.stack}.yaml"

    def up(self, settings: Mapping[str, str]) -> str:
        """Deploy the stack; returns the engine's own counts, as "28 created"."""
        self.prepare(settings)
        return self.act("up", "--yes", "--skip-preview")

    def prepare(self, settings: Mapping[str, str]) -> None:
        """Make the stack if there is none, with the committed settings of `local` and these."""
        self._make()
        for key, value in settings.items():
            self.set(key, value)

    def set(self, key: str, value: str) -> None:
        """One setting; a dot or a bracket in the key leads into a structure."""
        path = ["--path"] if set(".[") & set(key) else []
        chosen = ["--stack", self.stack, "--config-file", str(self.config)]
        # A value that begins with a hyphen is no option.
        self.run("config", "set", *path, *chosen, "--", key, value)

    def destroy(self, *options: str) -> None:
        """Remove the stack and all it holds; nothing to do where there is none.

        What was set since `up` is seen with `--run-program` only: the file is not where a provider looks.
        """
        if not self.has_stack():
            return
        self.act("destroy", "--yes", "--skip-preview", *options, timeout_seconds=DESTROY_SECONDS)
        # From the project in the cache: it removes the configuration file beside it.
        self.run("stack", "rm", self.stack, "--yes", cwd=self._project, timeout_seconds=60)
        shutil.rmtree(self.folder)

    def has_stack(self) -> bool:
        if not self.config.is_file():
            return False
        listed = json.loads(self.run("stack", "ls", "--json", cwd=self._project, timeout_seconds=60))
        return any(stack["name"] == self.stack for stack in listed)

    def act(self, *arguments: str, timeout_seconds: float = UP_SECONDS) -> str:
        """An operation of the checkout's program on the stack; returns the engine's counts of it."""
        return counts_in(self.show(*arguments, timeout_seconds=timeout_seconds))

    def show(self, *arguments: str, timeout_seconds: float = UP_SECONDS) -> str:
        """The same; returns all that it says."""
        chosen = ["--stack", self.stack, "--config-file", str(self.config), "--suppress-progress"]
        return self.run(*arguments, *chosen, timeout_seconds=timeout_seconds)

    def run(self, *arguments: str, cwd: Path = ROOT, timeout_seconds: float = 60) -> str:
        environment = {
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            # It wins over a PULUMI_CONFIG_PASSPHRASE_FILE of the user's.
            "PULUMI_CONFIG_PASSPHRASE": (self.folder / "passphrase").read_text(),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            # A CLI of our own finds its language plugin beside itself.
            "PATH": f"{Path(self.program).parent}{os.pathsep}{os.environ['PATH']}",
        }
        words = [self.program, "--non-interactive", "--color=never", *arguments]
        return run(words, env=environment, cwd=cwd, timeout_seconds=timeout_seconds)

    def _make(self) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        passphrase = self.folder / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_urlsafe(24))
        (self.folder / "state").mkdir(exist_ok=True)
        shutil.copy(ROOT / "Pulumi.yaml", self._project)
        committed = (ROOT / "stacks" / f"Pulumi.{STACK}.yaml").read_text()
        if self.has_stack():
            lines = self.config.read_text().splitlines()
            salt = [line for line in lines if line.startswith("encryptionsalt:")]
            self.config.write_text("\n".join([committed.rstrip(), *salt, ""]))
        else:
            self.config.write_text(committed)
            self.run("stack", "init", self.stack, cwd=self._project, timeout_seconds=60)


def counts_in(shown: str) -> str:
    """Of an operation, as "2 updated, 26 unchanged"."""
    return ", ".join(re.findall(r"^\W*(\d+ \w+)$", shown.rpartition("Resources:")[2], re.MULTILINE))


def program_found() -> str | None:
    """The CLI on PATH, or the one installed by an earlier demo."""
    own = _own_root() / "bin" / "pulumi"
    return shutil.which("pulumi") or (str(own) if own.exists() else None)


def find() -> Engine | None:
    program = program_found()
    return Engine(program=program, folder=cache() / STATE_FOLDER) if program else None


def find_or_install() -> Engine | None:
    """None, with a line that says why, where the engine cannot be had."""
    engine = find()
    if engine is None:
        say(
            "pulumi is not on PATH; asking its own installer: about 1 min, where get.pulumi.com is reachable."
        )
        install = (
            "import sys; from pulumi.automation import PulumiCommand; "
            "PulumiCommand.install(root=sys.argv[1], version=None)"
        )
        try:
            run([sys.executable, "-c", install, str(_own_root())], timeout_seconds=INSTALL_SECONDS)
        except DemoError as trouble:
            say(f"It could not be had: {str(trouble).splitlines()[-1]}")
            return None
        engine = find()
    if engine is None:
        say("The installer ran and there is no pulumi.")
        return None
    return engine if _has_provider(engine) else None


def forget() -> None:
    """Drop the state of a stack whose cluster goes as a whole."""
    shutil.rmtree(cache() / STATE_FOLDER, ignore_errors=True)


def _has_provider(engine: Engine) -> bool:
    wanted = version("pulumi-kubernetes")
    listed = json.loads(run([engine.program, "plugin", "ls", "--json"], timeout_seconds=60))
    if any(plugin["name"] == "kubernetes" and plugin["version"] == wanted for plugin in listed):
        return True
    say(f"Fetching Pulumi's Kubernetes provider {wanted}: about 30 s.")
    try:
        install = [engine.program, "plugin", "install", "resource", "kubernetes", wanted]
        run(install, timeout_seconds=INSTALL_SECONDS)
    except DemoError as trouble:
        say(f"It could not be had: {str(trouble).splitlines()[-1]}")
        return False
    return True


def _own_root() -> Path:
    return cache() / "pulumi-cli"
