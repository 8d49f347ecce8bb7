"""`python -m scaler simulate`: a load, recorded or made, under one or several policies.

It owns the command's words. It needs no cluster and no broker, writes nothing but the chart that it is asked
for, and that only when all went well; what cannot be is one line and exit code 2.

The simulation is `scaler.simulate`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scaler import recording
from scaler.simulate import chart
from scaler.simulate.contender import DEFAULTS, PLAIN_SPEC, SPEC_KEYS, TIMES, Contender, contender_of
from scaler.simulate.load import KINDS, Load, made
from scaler.simulate.race import race
from scaler.simulate.recorded import Recorded, recorded
from scaler.simulate.report import table
from scaler.simulate.site import Workers
from scaler.simulate.words import Impossible, split

HELP = f"""Loads, each with keys as in `--load poisson:rate=5,service=2`:
{chr(10).join(f"  {kind}: {', '.join(keys)}" for kind, keys in KINDS.items())}

Policies, as in `--policy calm:maxReplicas=20,calmSeconds=120`. A name that is hpa or keda, or begins with
hpa- or keda-, goes by the rules of those, any other one by ours. Keys:
  {", ".join(SPEC_KEYS)}
{chr(10).join(f"  {rules}: {', '.join(keys)}" for rules, keys in TIMES.items())}
  policies are written Pods/4/60+Percent/100/15: type, value, periodSeconds
"""


def simulate(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.file is None) == (options.load is None):
        parser.error("give a recording or --load, and not both")
    try:
        sys.stdout.write("".join(f"{line}\n" for line in _simulated(options)))
    except Impossible as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaler simulate",
        description=(__doc__ or "").partition("\n")[0],
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plain = Workers()
    parser.add_argument("file", nargs="?", type=Path, help="a recording of `python -m scaler record`")
    parser.add_argument("--pool", help="of the recording, where there are several")
    parser.add_argument("--load", metavar="KIND[:KEY=VALUE,...]", help="made instead of a recorded one")
    parser.add_argument("--policy", action="append", metavar="NAME[:KEY=VALUE,...]", help="one to compare")
    parser.add_argument("--common", default="", metavar="KEY=VALUE,...", help="keys of all policies")
    parser.add_argument("--seed", type=int, default=1, help="of the load and of every phase (default: 1)")
    parser.add_argument(
        "--start",
        type=float,
        metavar="SECONDS",
        help=f"of a new worker (default: as recorded, else {plain.start_seconds:g})",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=plain.grace_seconds,
        metavar="SECONDS",
        help=f"of a pod that is taken away (default: {plain.grace_seconds:g})",
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw demand and replicas: .svg or .png")
    return parser


def _simulated(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the answer; the chart is drawn before the first of them."""
    if options.chart is not None:
        chart.check(options.chart)
    source: Recorded | None = None
    if options.file is not None:
        source = _read(options.file, options.pool)
        load = source.load
    else:
        load = made(options.load, options.seed)
    _, common = split(f"--common:{options.common}")
    base = source.spec if source else PLAIN_SPEC
    contenders = [contender_of(text, base, common) for text in options.policy or DEFAULTS]
    _check_names(contenders)
    workers = _workers(options, source)
    replicas = source.replicas if source else None
    runs = race(load, contenders, workers, seed=options.seed, replicas=replicas)
    if options.chart is not None:
        chart.draw(options.chart, load.name, runs)
    yield from _told(load, workers, source, options.seed)
    yield ""
    yield from table(runs)


def _read(path: Path, pool: str | None) -> Recorded:
    try:
        with path.open("rb") as lines:
            found = recording.read(lines)
    except OSError as error:
        raise Impossible(f"{path}: {error.strerror}") from error
    except recording.WrongRecording as error:
        raise Impossible(f"{path}: {error}") from error
    return recorded(found, pool)


def _workers(options: argparse.Namespace, source: Recorded | None) -> Workers:
    plain = Workers()
    start = options.start
    if start is None:
        start = source.start_seconds if source else None
    start = plain.start_seconds if start is None else start
    for name, value in (("--start", start), ("--grace", options.grace)):
        if not 0 <= value < float("inf"):
            raise Impossible(f"{name} must be a number of seconds from 0 on, not {value}")
    return Workers(start_seconds=start, grace_seconds=options.grace)


def _check_names(contenders: Sequence[Contender]) -> None:
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise Impossible(f"two policies have the name {name}")


def _told(load: Load, workers: Workers, source: Recorded | None, seed: int) -> Iterator[str]:
    count = len(load.arrivals)
    yield (
        f"{load.name}: {count:,} tasks in {load.arrivals[-1]:,.0f} s, {load.work:,.0f} slot-seconds of work; "
        f"a worker starts in {workers.start_seconds:.1f} s; seed {seed}"
    )
    if source is not None:
        figures = {"to max": source.to_maximum, "to drain": source.to_drain, "to min": source.to_minimum}
        told = ", ".join(
            f"{name} {'-' if value is None else f'{value:.1f}'}" for name, value in figures.items()
        )
        yield f"recorded: {told}; each task is given {load.services[0]:.3f} s, the mean"
