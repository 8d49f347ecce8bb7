"""Recordings of runs whose truth is known: what a recorder would write of a run in the model."""

from __future__ import annotations

import math
from random import Random

from scaler.contract import policy_of
from scaler.pool.count import Count
from scaler.recording import Beat, Header, Recording, Seen, Tick, spec_of, text_of
from scaler.simulate.contender import PLAIN_SPEC, contender_of
from scaler.simulate.fleet import Fleet
from scaler.simulate.load import Load
from scaler.simulate.site import Site, Workers
from tests.scaler.samples import observation

EPOCH = 1_704_067_200.0
SPEC = spec_of("sums", contender_of("ours:maxReplicas=6,averageValue=20", PLAIN_SPEC, {}).policy)


def record_of(load: Load, *, late: bool) -> Recording:
    """What a recorder would write of a run in the model: a tick and a heartbeat every 2 s, out of step."""
    site = Site(load, Workers(start_seconds=6), 1)
    scaler = Fleet(policy_of(SPEC), poll_seconds=2, phase=1, random=Random(1))
    ticks: list[Tick] = []
    look, beat_at, running = 0.7, 0.0, 0
    beat = Beat(at=EPOCH, processed=0)
    while not site.all_done or site.now < max(site.done) + 90:
        at = min(scaler.next_at, look, beat_at)
        site.advance(at)
        if at == beat_at:
            beat = Beat(at=EPOCH + at, processed=sum(not math.isnan(start) for start in site.started))
            running, beat_at = site.unacked, beat_at + 2
        elif at == look:
            seen = Seen(
                running=running,
                capacity=sum(pod.taking for pod in site.pods),
                beats={"sums-1": beat},
            )
            ticks.append(tick(at, site.queued, site.unacked if late else 0, replicas=site.spec, seen=seen))
            look += 2
        else:
            scaler.act(site)
    return Recording(namespace="n", poll_seconds=2, specs={"sums": SPEC}, ticks={"sums": ticks})


def tick(at: float, queued: int | Count, unacked: int | Count = 0, *, replicas: int = 1, seen: Seen) -> Tick:
    observed = observation(queued, unacked, replicas=replicas, at=EPOCH + at)
    return Tick(at=EPOCH + at, pool="sums", ready="Watching", observation=observed, seen=seen)


def recording_of(ticks: list[Tick]) -> Recording:
    return Recording(namespace="n", poll_seconds=2, specs={"sums": SPEC}, ticks={"sums": ticks})


def lines_of(recording: Recording) -> list[str]:
    """The file that `read` makes this of."""
    pools = {name: dict(spec) for name, spec in recording.specs.items()}
    header = Header(namespace=recording.namespace, poll_seconds=recording.poll_seconds, pools=pools)
    return [text_of(header), *(text_of(tick) for ticks in recording.ticks.values() for tick in ticks)]
