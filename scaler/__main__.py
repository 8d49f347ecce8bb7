"""Runs the scaler, `python -m scaler [--once] [--dry-run]`, or one of its commands.

It owns the command line, the log's form and the signals. With --dry-run nothing is written, not even the
Lease: what would be decided is logged. With --once there is one tick; the exit code is 0 if every object
is Ready, else 1. A wrong environment is exit code 2, a port that is taken 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence

import structlog

from scaler.cluster.objects import ClusterFailure
from scaler.contract import HTTP_PORT
from scaler.loop import Loop
from scaler.metrics import Metrics
from scaler.settings import Settings, WrongEnvironment, load
from scaler.telemetry import Telemetry
from scaler.web.board import Board
from scaler.web.links import Links
from scaler.web.server import PortTaken, serve
from scaler.wiring import wired

COMMANDS = """commands, each with a --help of its own:
  status           all pools of the namespace in one table
  explain NAME     the arithmetic of one decision
  record           what is observed and decided, as JSON lines
  simulate [FILE]  a recorded or made load under one or several policies
  drain            wait until no task is left"""


def main(arguments: Sequence[str]) -> int:
    command = None
    try:
        command = _command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough. What is left must not fail once more at the interpreter's end
        # (docs.python.org, signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return command or 0
    if command is not None:
        return command
    parser = argparse.ArgumentParser(
        prog="scaler",
        description="Scale the Celery workers of one namespace with what their queues ask for.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="one tick, then exit")
    parser.add_argument("--dry-run", action="store_true", help="decide and log, write nothing")
    options = parser.parse_args(arguments)
    try:
        settings = load(os.environ)
    except WrongEnvironment as error:
        sys.stderr.write(f"{error}\n")
        return 2
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
    )
    return asyncio.run(_run(settings, once=options.once, dry_run=options.dry_run))


def _command(arguments: Sequence[str]) -> int | None:
    """The exit code of the command that is named, None where none is; the others are not even loaded."""
    rest, environ = arguments[1:], os.environ
    match arguments[:1]:
        case ["drain"]:
            from scaler.commands.drain import drain

            return drain(rest, environ)
        case ["status"]:
            from scaler.commands.status import status

            return status(rest, environ)
        case ["explain"]:
            from scaler.commands.explain import explain

            return explain(rest, environ)
        case ["record"]:
            from scaler.commands.record import record

            return record(rest, environ)
        case ["simulate"]:
            from scaler.commands.simulate import simulate

            return simulate(rest)
    return None


async def _run(settings: Settings, *, once: bool, dry_run: bool) -> int:
    metrics, board = Metrics(started_at=time.time()), Board(settings.namespace, settings.poll_seconds)
    telemetry = Telemetry(structlog.get_logger(), metrics, board)
    doing = "starting"
    try:
        async with wired(settings, telemetry, requested=metrics.requested, dry_run=dry_run) as scaler:
            doing = "looking once"
            if once:
                return 0 if await scaler.loop.once() else 1
            return await _serve(scaler.loop, metrics, board, settings.links)
    except ClusterFailure as failure:
        telemetry.failed(doing, failure)
        return 1


async def _serve(loop: Loop, metrics: Metrics, board: Board, links: Links) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host = "0.0.0.0"  # noqa: S104  # a pod's own network
    try:
        runner = await serve(board, metrics.registry, loop.alive, host=host, port=HTTP_PORT, links=links)
    except PortTaken as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        await loop.run(stop)
    finally:
        await runner.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
