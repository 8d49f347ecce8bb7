"""The comparison: `python -m bench.keda [--repeats N]`. It prints the table and keeps it as docs/keda.md."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench.keda import build, installation
from bench.keda.field import side_by_side
from bench.keda.figures import Figures
from bench.keda.installation import Keda
from bench.keda.load import FLOOD, LONG, Watched, floods, long_tasks
from bench.keda.page import Comparison
from bench.memory import resident_megabytes
from demo import cluster as clusters
from demo import images
from demo.cluster import Cluster
from demo.commands import DemoError, say
from demo.environment import ROOT
from demo.images import Built
from scaler.contract import SCALER_NAME
from tests.devcluster.commands import DevclusterError

PAGE: Final = ROOT / "docs" / "keda.md"
MINUTES: Final = "A round takes about 25 min, after 10 min for the first build of KEDA"
QUIET: Final = 0.5
"""Load average per processor, before anything of ours runs, up to which a machine counts as quiet."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    # So that what was installed is removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(options)
    except (DemoError, DevclusterError, AssertionError) as trouble:
        # A removal that fails must not hide what it came after.
        for one in (trouble.__context__, trouble):
            if one is not None:
                print(f"bench.keda: {one}", file=sys.stderr)
        return 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.keda",
        description=f"{(__doc__ or '').splitlines()[0]} {MINUTES}.",
    )
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="medians of so many runs of each")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table is kept")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--build-only", action="store_true", help="KEDA's programs and image; no cluster")
    only.add_argument("--remove", action="store_true", help="what a killed run left of KEDA on the cluster")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    if options.build_only:
        say(build.image())
        return 0
    machine = _machine()
    cluster = clusters.find_or_make()
    if cluster.maker != "devcluster":
        raise DemoError("This needs a cluster whose node is this machine: unset DEMO_CONTEXT")
    if options.remove:
        installation.remove(cluster)
        return 0
    image, built = build.image(), images.build_and_load(cluster, "")
    cluster.load([image])
    with installation.installed(cluster, image) as keda:
        compared = _compare(cluster, built, keda, machine=machine, repeats=options.repeats)
        # Before KEDA's removal, which may fail.
        print(compared.terminal())
        options.page.write_text(compared.markdown())
    return 0


def _compare(cluster: Cluster, built: Built, keda: Keda, *, machine: str, repeats: int) -> Comparison:
    flood: dict[str, list[Figures]] = defaultdict(list)
    long: dict[str, list[Figures]] = defaultdict(list)
    versions = ""
    for _ in range(repeats):
        with side_by_side(cluster, built, FLOOD) as runs:
            versions = versions or _versions(cluster, runs[0])
            _keep(floods(runs, partial(_megabytes, keda)), flood)
        with side_by_side(cluster, built, LONG) as runs:
            _keep(long_tasks(runs), long)
    return Comparison(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine,
        versions=versions,
        repeats=repeats,
        flood=flood,
        long=long,
    )


def _keep(figures: Mapping[str, Figures], kept: Mapping[str, list[Figures]]) -> None:
    """And say them, so that what a run has cost is not lost with a later one."""
    for name, figure in figures.items():
        say(f"  {name}: {figure}")
        kept[name].append(figure)


def _megabytes(keda: Keda, run: Watched) -> float:
    if run.system.is_keda:
        return sum(keda.megabytes().values())
    return resident_megabytes(run.stack.cluster, run.stack.namespace, SCALER_NAME)


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
