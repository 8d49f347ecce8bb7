"""Wires the scaler and runs it: `python -m scaler [--once] [--dry-run]`, or `python -m scaler drain`.

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
from collections.abc import Sequence

import structlog

from scaler.broker.redis_broker import RedisBroker
from scaler.cluster.client import Api
from scaler.cluster.lease import Lease, Spectator
from scaler.cluster.namespace import Namespace
from scaler.cluster.objects import ClusterFailure
from scaler.contract import HTTP_PORT
from scaler.emptying_command import drain
from scaler.loop import Leadership, Loop
from scaler.metrics import Metrics
from scaler.settings import Settings, WrongEnvironment, load
from scaler.telemetry import Telemetry
from scaler.web.board import Board
from scaler.web.links import Links
from scaler.web.server import PortTaken, serve
from scaler.workers.control import WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Link


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["drain"]:
        return drain(arguments[1:], os.environ)
    parser = argparse.ArgumentParser(prog="scaler", description=(__doc__ or "").partition("\n")[0])
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


async def _run(settings: Settings, *, once: bool, dry_run: bool) -> int:
    metrics, board = Metrics(), Board(settings.namespace, settings.poll_seconds)
    telemetry = Telemetry(structlog.get_logger(), metrics, board)
    try:
        api = Api(settings.namespace, metrics.requested)
    except ClusterFailure as failure:
        telemetry.failed("starting", failure)
        return 1
    broker = RedisBroker(settings.broker_url_file, settings.layout)
    namespace = Namespace(api, settings.namespace, settings.pod_name)
    lease: Leadership = Spectator() if dry_run else Lease(namespace, settings.pod_name)
    link = Link(
        url_file=settings.broker_url_file,
        name=settings.namespace,
        transport_options=settings.transport_options,
        control_exchange=settings.control_exchange,
        event_exchange=settings.event_exchange,
    )
    control, listener = WorkerControl(link), HeartbeatListener(link)
    listener.start()
    loop = Loop(
        broker=broker,
        control=control,
        ear=listener,
        cluster=namespace,
        lease=lease,
        telemetry=telemetry,
        poll_seconds=settings.poll_seconds,
        visibility_seconds=settings.layout.visibility_seconds,
        handshake=settings.handshake,
    )
    try:
        if once:
            return 0 if await loop.once() else 1
        return await _serve(loop, metrics, board, settings.links)
    except ClusterFailure as failure:
        telemetry.failed("looking once", failure)
        return 1
    finally:
        await control.close()
        await asyncio.to_thread(listener.close)
        await broker.close()
        await api.close()


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
