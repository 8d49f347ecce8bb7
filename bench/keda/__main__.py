"""The comparison: `python -m bench.keda [--repeats N]`. It prints the table and keeps it as docs/keda.md."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.keda import build
from bench.keda.figures import Figures
from bench.keda.installation import Keda, installed
from bench.keda.load import FLOOD, Watched, flood, long_tasks, watched
from bench.keda.page import Comparison
from bench.keda.systems import SYSTEMS, System
from bench.memory import resident_megabytes
from demo import cluster as clusters
from demo import images
from demo.cluster import Cluster
from demo.commands import DemoError, say
from demo.environment import ROOT
from scaler.contract import SCALER_NAME
from tests.devcluster.commands import DevclusterError
from tests.e2e.conftest import Stacks

PAGE: Final = ROOT / "docs" / "keda.md"
QUIET: Final = 0.5
"""Load average per processor, before anything of ours runs, up to which a machine counts as quiet."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.keda", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    # So that what was installed is removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        compared = _compare(options.repeats)
    except (DemoError, DevclusterError) as trouble:
        print(f"bench.keda: {trouble}", file=sys.stderr)
        return 1
    print(compared.terminal())
    options.page.write_text(compared.markdown())
    return 0


def _compare(repeats: int) -> Comparison:
    machine = _machine()
    cluster = clusters.find_or_make()
    if cluster.maker != "devcluster":
        raise DemoError("This needs a cluster whose node is this machine: unset DEMO_CONTEXT")
    stacks = Stacks(cluster, images.build_and_load(cluster, ""))
    floods: dict[str, list[Figures]] = defaultdict(list)
    longs: dict[str, list[Figures]] = defaultdict(list)
    versions = ""
    with installed(cluster) as keda:
        for _ in range(repeats):
            for system in SYSTEMS:
                with watched(system, FLOOD, stacks.make) as run:
                    floods[system.name].append(_told(flood(run, _megabytes(keda, system, run))))
                    versions = versions or _versions(cluster, run)
            for name, figures in long_tasks(SYSTEMS, stacks.make).items():
                longs[name].append(_told(figures))
    return Comparison(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine,
        versions=versions,
        repeats=repeats,
        flood=floods,
        long=longs,
    )


def _told(figures: Figures) -> Figures:
    """So that what a run has cost is not lost with a later one."""
    say(f"  {figures}")
    return figures


def _megabytes(keda: Keda, system: System, run: Watched) -> Callable[[], float]:
    def read() -> float:
        if system.is_keda:
            return sum(keda.megabytes().values())
        return resident_megabytes(run.stack.cluster, run.stack.namespace, SCALER_NAME)

    return read


def _machine() -> str:
    processors = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    quiet = load <= QUIET * processors
    share = "quiet" if quiet else "shared with other work, which makes pods start late and tasks run longer"
    return f"{processors} processors, {memory:.0f} GiB, a load average of {load:.1f} before it began: {share}"


def _versions(cluster: Cluster, run: Watched) -> str:
    kubernetes = re.search(r"Server Version: v(\S+)", cluster.kubectl("version"))
    ask = "import celery; print(celery.__version__)"
    celery = run.stack.kubectl("exec", "outside", "--", "python3", "-c", ask).strip()
    return (
        f"KEDA {build.version()}, Kubernetes {kubernetes[1] if kubernetes else 'unknown'}, Celery {celery}, "
        f"Redis {run.backlog.redis_version}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
