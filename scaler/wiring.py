"""The loop with its adapters around it, from the start of their connections to their end.

It owns which adapter plays which part, for the scaler itself and for the commands that only look. It reads
no environment and decides nothing: `scaler.settings` gives it the one, `scaler.loop` does the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from scaler.broker.broker_by_url import BrokerByUrl
from scaler.cluster.client import Api
from scaler.cluster.lease import Lease, Spectator
from scaler.cluster.namespace import Namespace
from scaler.loop import Leadership, Loop, Telemetry
from scaler.settings import Settings
from scaler.workers.control import WorkerControl
from scaler.workers.heartbeats import HeartbeatListener
from scaler.workers.link import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    loop: Loop
    namespace: Namespace
    ear: HeartbeatListener


@asynccontextmanager
async def wired(
    settings: Settings,
    telemetry: Telemetry,
    *,
    requested: Callable[[str, str, str], None] = lambda _verb, _resource, _code: None,
    dry_run: bool,
) -> AsyncIterator[Wired]:
    """`requested` is told of each request to the Kubernetes API. With `dry_run` nothing is ever written.

    Raises ClusterFailure where no cluster is configured.
    """
    api = Api(settings.namespace, requested)
    broker = BrokerByUrl(settings.broker_url_file, settings.layout, settings.management_url_file)
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
        yield Wired(loop=loop, namespace=namespace, ear=listener)
    finally:
        await control.close()
        await asyncio.to_thread(listener.close)
        await broker.close()
        await api.close()
