"""The simulation against the cluster: `python -m bench.simulated [--keep FOLDER]`.

A stack is flooded at once, then in waves, while `python -m scaler record` runs in the scaler's pod. Each of
the two recordings is simulated under the same policy, with service and start time of the *other* one, and
what came out is printed beside what was measured.

It asserts nothing, and wants the cluster to itself: who else uses the processors is in no model.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from demo import cluster as clusters
from demo import images, rendered
from demo.cluster import Cluster
from demo.commands import wait_until
from demo.flood import Pool, only_pool, publish, wait_until_idle
from demo.sight import look
from scaler import recording
from scaler.contract import SCALER_NAME, Env
from scaler.simulate.contender import contender_of
from scaler.simulate.race import Run, race
from scaler.simulate.recorded import Recorded, recorded
from scaler.simulate.site import Workers
from tests.e2e.stack import settings_of

TASK = "batches=1&task=sleep&ms=50"
FLOODS = (((0, 4000),), ((0, 1500), (20, 600), (20, 2000)))
"""Of each recording: seconds to wait, and tasks to publish then."""
POLL_SECONDS = 0.5
"""Of the recorder, finer than the scaler's own 2 s: a time is known to half of it."""
SEEDS = range(50)
LIMIT_PERCENT = 15
DONE_SECONDS = 600
RECORDER_SECONDS = 60


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulated", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the recordings in this folder")
    parser.add_argument("--again", action="store_true", help="take those of --keep, without a cluster")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as passing:
        folder = options.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"flood-{number}.jsonl" for number, _ in enumerate(FLOODS, start=1)]
        if not options.again:
            with _stack() as (cluster, pool):
                for path, waves in zip(paths, FLOODS, strict=True):
                    _record(cluster, pool, waves, path)
        first, second = (_read(path) for path in paths)
        print("\n".join([*compare("at once", first, second), *compare("in waves", second, first)]))
    return 0


@contextmanager
def _stack() -> Iterator[tuple[Cluster, Pool]]:
    cluster = clusters.find_or_make()
    built = images.build_and_load(cluster, "")
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    try:
        rendered.apply(cluster, "local", settings_of(namespace, built))
        pool = only_pool(cluster, namespace)
        wait_until_idle(cluster, pool)
        yield cluster, pool
    finally:
        rendered.remove(cluster, namespace)


def _record(cluster: Cluster, pool: Pool, waves: Sequence[tuple[int, int]], path: Path) -> None:
    """From before the first wave to the fewest workers again."""
    wait_until_idle(cluster, pool)
    scaler = ("exec", f"--namespace={pool.namespace}", f"deployment/{SCALER_NAME}", "--")
    record = ("env", f"{Env.POLL_SECONDS}={POLL_SECONDS}", "python3", "-m", "scaler", "record", pool.name)
    with (
        path.open("wb") as file,
        subprocess.Popen([*cluster.kubectl_words(), *scaler, *record], stdout=file) as recorder,
    ):
        try:
            wait_until(lambda: _heard(path), "a recorder that hears", timeout_seconds=RECORDER_SECONDS)
            time.sleep(random.uniform(0, 2))
            for seconds, tasks in waves:
                time.sleep(seconds)
                publish(cluster, pool.namespace, f"tasks={tasks}&{TASK}")
            wait_until(
                lambda: _idle(cluster, pool),
                "nothing to do and the fewest workers",
                timeout_seconds=DONE_SECONDS,
                pause_seconds=2,
            )
            time.sleep(5)
        finally:
            recorder.terminate()


def _heard(path: Path) -> bool:
    """Ten ticks: every worker has sent heartbeats."""
    return path.read_bytes().count(b"\n") > 10


def _idle(cluster: Cluster, pool: Pool) -> bool:
    sight = look(cluster, pool.namespace, pool.name)
    return sight.waiting == 0 and sight.replicas == sight.ready == pool.least


def _read(path: Path) -> Recorded:
    with path.open("rb") as lines:
        return recorded(recording.read(lines), None)


def compare(name: str, found: Recorded, other: Recorded) -> Iterator[str]:
    """What was measured beside what comes of it in the model."""
    service, start = other.load.services[0], other.start_seconds or Workers().start_seconds
    yield (
        f"{name}: {len(found.load.arrivals)} tasks of {found.load.services[0]:.4f} s, workers start in "
        f"{found.start_seconds or float('nan'):.1f} s; simulated with {service:.4f} s and {start:.1f} s"
    )
    runs = [_simulate(found, service, start, seed) for seed in SEEDS]
    for what, measured, simulated in (
        ("to maximum", found.to_maximum, [run.to_maximum for run in runs]),
        ("to drain", found.to_drain, [run.to_drain for run in runs]),
        ("to minimum", found.to_minimum, [run.to_minimum for run in runs]),
    ):
        times = [value for value in simulated if value is not None]
        if not measured or len(times) < len(runs):
            yield f"  {what:10}  measured {measured}, simulated {times}"
            continue
        mean = statistics.mean(times)
        yield (
            f"  {what:10}  measured {measured:6.1f} s, simulated {mean:6.1f} s "
            f"({min(times):.1f} to {max(times):.1f}): {100 * (mean / measured - 1):+.0f} %, "
            f"limit {LIMIT_PERCENT} %"
        )


def _simulate(found: Recorded, service: float, start: float, seed: int) -> Run:
    """In the phase in which the scaler was seen to act first; no model can know it."""
    poll = 1.9  # 2 s, shortened by up to a tenth
    phase = (found.risen_at or 0.0) % poll
    ours = contender_of(f"ours:phaseSeconds={phase}", found.spec, {})
    load = replace(found.load, services=[service] * len(found.load.arrivals))
    return race(load, [ours], Workers(start_seconds=start), seed=seed, replicas=found.replicas)[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
