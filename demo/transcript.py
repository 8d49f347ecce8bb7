"""Writes docs/transcripts/pulumi-local.md: a stack's ordinary life by the real `pulumi`, as it was printed.

`python -m demo.transcript`, with the CLI on PATH. It owns the order of the commands and what is taken out
of their output: this machine's folders. Each command runs as it is shown, but for the options that keep
the user's own Pulumi login out of it. A step whose promise does not hold ends it, and nothing is written.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from demo import cluster as clusters
from demo import images
from demo.cluster import Cluster
from demo.commands import DemoError, wait_until
from demo.engine import Engine
from demo.environment import ROOT

PAGE: Final = ROOT / "docs" / "transcripts" / "pulumi-local.md"
FIRST, SECOND = "local", "second"
WORKERS: Final = "default-celery-worker"
HEAD: Final = f"""\
# `pulumi` on one cluster, from the first `up` to the last `destroy`

Written by `python -m demo.transcript`: what the commands printed, without colours, this machine's folders and
the lines that a resource is being created, refreshed or deleted. Two stacks share the cluster; `{FIRST}`
is the committed one.
"""


_STEP: Final = re.compile(r"^ . +\S+ \S+ (creat|delet|refresh|updat|runn)ing\b.*$")
"""What the engine says of a resource before it says what became of it."""


@dataclass(slots=True)
class Transcript:
    cluster: Cluster
    hidden: dict[str, str]
    """What is shown instead of this machine's own words."""
    lines: list[str] = field(default_factory=lambda: [HEAD])

    def say(self, text: str) -> None:
        self.lines.append(f"\n## {text}\n")
        print(text, flush=True)

    def pulumi(self, engine: Engine, *words: str) -> str:
        chosen = ["--stack", engine.stack]
        private = ["--config-file", str(engine.config)] if words[0] != "stack" else []
        quiet = ["--suppress-progress"] if words[0] in {"preview", "up", "refresh", "destroy"} else []
        shown = engine.run(*words, *chosen, *private, *quiet, timeout_seconds=900)
        self._add(["pulumi", *words, *chosen], shown)
        return shown

    def kubectl(self, *words: str) -> str:
        shown = self.cluster.kubectl(*words, timeout_seconds=200)
        self._add(["kubectl", *words], shown)
        return shown

    def same(self, what: str, before: str, after: str) -> None:
        if before != after:
            raise DemoError(f"{what} changed:\n{before}\n{after}")

    def _add(self, words: list[str], shown: str) -> None:
        text = f"$ {shlex.join(words)}\n{shown.strip()}"
        for private, public in self.hidden.items():
            text = text.replace(private, public)
        kept = [line.rstrip() for line in text.splitlines() if not _STEP.match(line)]
        self.lines.append("```console\n" + "\n".join(kept) + "\n```\n")


def main() -> int:
    program = shutil.which("pulumi")
    if program is None:
        print("transcript: pulumi is not on PATH", file=sys.stderr)
        return 1
    cluster = clusters.find_or_make()
    built = images.build_and_load(cluster, "")
    with tempfile.TemporaryDirectory() as folder:
        engines = [
            Engine(program=program, folder=Path(folder) / name, stack=name) for name in (FIRST, SECOND)
        ]
        hidden = {str(cluster.kubeconfig): "~/.kube/config", f"{ROOT}/": "", folder: "~"}
        transcript = Transcript(cluster, hidden)
        at = {"kubernetes:context": cluster.context, "kubernetes:kubeconfig": str(cluster.kubeconfig)}
        apart = {
            **{f"{page}NodePort": "0" for page in ("flower", "scaler", "sampleApp")},
            **{f"{page}ServiceType": "ClusterIP" for page in ("flower", "scaler")},
        }
        try:
            _tell(transcript, engines[0], engines[1], {**at, **built.settings}, apart)
        except DemoError as trouble:
            print(f"transcript: {trouble}", file=sys.stderr)
            return 1
        finally:
            for engine in engines:
                engine.destroy()
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(transcript.lines))
    return 0


def _tell(
    told: Transcript, first: Engine, second: Engine, settings: dict[str, str], apart: dict[str, str]
) -> None:
    namespace = f"celery-fleet-{FIRST}"
    workers = ("get", "pods", "-n", namespace, "-l", "celeryproject.org/pool=default")
    identities = (
        *workers,
        "-o",
        "custom-columns=NAME:.metadata.name,UID:.metadata.uid",
        "--sort-by=.metadata.name",
    )

    told.say("The first `up`")
    first.prepare(settings)
    told.pulumi(first, "config")
    told.pulumi(first, "up", "--yes")
    told.kubectl("get", "cel", "-n", namespace)

    told.say("Nothing changed: nothing to do, also after the pool was scaled")
    told.pulumi(first, "up", "--yes")
    told.kubectl("scale", "-n", namespace, f"deployment/{WORKERS}", "--replicas=3")
    told.pulumi(first, "up", "--yes")
    told.pulumi(first, "refresh", "--yes")
    told.pulumi(first, "up", "--yes")
    told.kubectl(
        "wait",
        "-n",
        namespace,
        "--for=jsonpath={.spec.replicas}=2",
        f"deployment/{WORKERS}",
        "--timeout=180s",
    )
    told.pulumi(first, "refresh", "--yes", "--skip-preview")
    # A pod that stops is listed until it is gone.
    names = (*workers, "-o", "name")
    wait_until(
        lambda: len(told.cluster.kubectl(*names).split()) == 2, "two workers again", timeout_seconds=60
    )

    told.say("Another limit: two updates, and no pod restarts")
    before = told.kubectl(*identities)
    told.pulumi(first, "config", "set", "maxReplicas", "3")
    told.pulumi(first, "preview", "--diff")
    told.pulumi(first, "up", "--yes", "--skip-preview")
    told.same("the pool's pods", before, told.kubectl(*identities))
    told.kubectl("get", "cel", "-n", namespace)

    told.say("A second stack on the same cluster")
    second.prepare({**settings, **apart, "namespace": "celery-fleet-second"})
    told.pulumi(second, "up", "--yes", "--skip-preview")
    told.kubectl("get", "cel", "--all-namespaces")

    told.say("Each goes by itself; the definition of the `Celery` objects stays")
    told.pulumi(first, "destroy", "--yes", "--skip-preview")
    told.pulumi(second, "up", "--yes")
    told.pulumi(second, "destroy", "--yes", "--skip-preview")
    told.kubectl("get", "namespaces")
    told.kubectl("get", "crd")


if __name__ == "__main__":
    sys.exit(main())
