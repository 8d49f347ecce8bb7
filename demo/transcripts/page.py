"""Owns the running of a story's commands, and what of their output a page shows.

The project is copied, so that `pulumi config set` writes into the stack's own file and neither the user's
login nor the committed `stacks/` are touched. Left out of the output are this machine's folders, colours, and
the lines that say what the engine is about to do: what became of it is in the next one.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from demo import cluster as clusters
from demo import images
from demo.cluster import Cluster
from demo.commands import DemoError, ProgramFailed, run
from demo.engine import program_found
from demo.environment import ROOT

SECONDS: Final = 900
PAGES: Final = ROOT / "docs" / "transcripts"
COPIED: Final = ("__main__.py", "Pulumi.yaml", "requirements.txt", "infra", "scaler", "stacks")
"""What a program and its provider need of the project; `.venv` is linked."""
SHOWN_QUIETLY: Final = frozenset({"preview", "up", "refresh", "destroy"})
_STEP: Final = re.compile(r"^ . +\S+ \S+ (creat|delet|refresh|updat|runn)ing\b.*$")
"""What the engine says of a resource before it says what became of it."""
_INTERRUPTED: Final = re.compile(
    r"^ *Traceback \(most recent call last\):\n(?:.*\n)*?^ *KeyboardInterrupt\n(?:^ *During handling .*\n)?",
    re.MULTILINE,
)
"""How the program ends where the engine stops it half-way: paths of this machine."""


@dataclass(slots=True)
class Page:
    cluster: Cluster
    project: Path
    environment: Mapping[str, str]
    hidden: Mapping[str, str]
    """What is shown instead of this machine's own words."""
    lines: list[str] = field(default_factory=list)
    folder: Path = PAGES

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def say(self, text: str) -> None:
        self.lines.append(f"\n## {text}\n")
        print(text, flush=True)

    def note(self, text: str) -> None:
        self.lines.append(f"{text}\n")

    def pulumi(self, stack: str, *words: str) -> str:
        """Raises DemoError where the command fails."""
        return self._show(["pulumi", *words, "--stack", stack])

    def pulumi_fails(self, stack: str, *words: str, saying: Sequence[str]) -> str:
        """Raises DemoError where it does not fail, or not for these reasons."""
        try:
            self.pulumi(stack, *words)
        except ProgramFailed as failure:
            self._add(["pulumi", *words, "--stack", stack], failure.output)
            self.expect(all(reason in failure.output for reason in saying), f"it says {saying}")
            return failure.output
        raise DemoError(f"pulumi {' '.join(words)} did not fail")

    def kubectl(self, *words: str) -> str:
        shown = self.cluster.kubectl(*words, timeout_seconds=200)
        self._add(["kubectl", *words], shown)
        return shown

    def expect(self, fact: bool, what: str) -> None:
        if not fact:
            raise DemoError(f"{what}: it does not hold")

    def same(self, what: str, before: str, after: str) -> None:
        self.expect(before == after, f"{what} stay the same:\n{before}\n{after}")

    def export(self, stack: str) -> str:
        """The stack's state, not shown."""
        return self._run(["pulumi", "stack", "export", "--stack", stack])

    def remove(self, stack: str) -> None:
        """Whatever is left of it where a story ended early; not shown."""
        file = self.project / "stacks" / f"Pulumi.{stack}.yaml"
        if file.is_file():
            self._run(["pulumi", "config", "set", "onDestroy", "discard", "--stack", stack])
            self._run(["pulumi", "destroy", "--yes", "--skip-preview", "--stack", stack])

    def _show(self, words: list[str]) -> str:
        quiet = ["--suppress-progress"] if words[1] in SHOWN_QUIETLY else []
        shown = self._run([*words, *quiet])
        self._add(words, shown)
        return shown

    def _run(self, words: list[str]) -> str:
        options = ["--non-interactive", "--color=never"]
        return run([*words, *options], env=self.environment, cwd=self.project, timeout_seconds=SECONDS)

    def _add(self, words: Sequence[str], shown: str) -> None:
        text = f"$ {shlex.join(words)}\n{shown.strip()}"
        for private, public in self.hidden.items():
            text = text.replace(private, public)
        text = _INTERRUPTED.sub("", text)
        kept = [line.rstrip() for line in text.splitlines() if not _STEP.match(line)]
        self.lines.append("```console\n" + "\n".join(kept) + "\n```\n")


@contextmanager
def open_page(head: str, stacks: Sequence[str]) -> Iterator[Page]:
    """A page with its first words; the stacks that a story may leave behind are removed in the end."""
    program = program_found()
    if program is None:
        raise DemoError("there is no pulumi CLI, neither on PATH nor from an earlier `make demo`")
    cluster = clusters.find_or_make()
    with tempfile.TemporaryDirectory() as scratch:
        project, state = Path(scratch) / "celery-fleet", Path(scratch) / "state"
        _copy(project)
        state.mkdir()
        page = Page(
            cluster=cluster,
            project=project,
            environment={
                "PULUMI_BACKEND_URL": f"file://{state}",
                "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(24),
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}",
            },
            hidden={str(cluster.kubeconfig): "~/.kube/config", f"{project}/": "", scratch: "~"},
            lines=[head],
        )
        try:
            yield page
        finally:
            for stack in stacks:
                page.remove(stack)


def _copy(project: Path) -> None:
    project.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project)
    (project / ".venv").symlink_to(ROOT / ".venv")


def settings_here(page: Page, servers: Collection[str] = ("redis",)) -> dict[str, str]:
    """What this cluster needs beside the committed `local`: where it is, and images that it has."""
    built = images.build_and_load(page.cluster, os.environ.get("DEMO_REGISTRY", ""), servers)
    return {**page.cluster.settings, **built.settings}


def make_stack(page: Page, stack: str, settings: Mapping[str, str]) -> None:
    """Not shown: a stack with the settings of `local` and these, as somebody has made it before."""
    file = page.project / "stacks" / f"Pulumi.{stack}.yaml"
    file.write_text((ROOT / "stacks" / "Pulumi.local.yaml").read_text())
    page._run(["pulumi", "stack", "init", stack])  # noqa: SLF001  # of this module
    for key, value in settings.items():
        path = ["--path"] if "." in key else []
        page._run(["pulumi", "config", "set", *path, key, value, "--stack", stack])  # noqa: SLF001  # as above
