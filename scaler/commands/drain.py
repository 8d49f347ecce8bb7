"""`python -m scaler drain`: wait until no task is left, before the fleet's manifests are deleted.

It owns the command's arguments, its lines and its exit codes: 0 when the fleet is empty, 1 when it is not
or nobody can say, 2 for wrong arguments. It reads with the rights of the scaler's Role, in the scaler's pod
or wherever there is a kubeconfig, and writes nothing: stop your producers first.

Whether the fleet is empty is judged in `scaler.emptying`, as `pulumi destroy` has it judged.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from scaler.cluster import wire
from scaler.cluster.client import Api
from scaler.cluster.namespace import CELERIES, DEPLOYMENTS, LEASES
from scaler.cluster.objects import ClusterFailure, Kind
from scaler.contract import SCALER_NAME, Env
from scaler.emptying import (
    Empty,
    Memory,
    Sight,
    Unknown,
    Waiting,
    WorkLeft,
    drain_rules,
    judge,
    left_of,
    scaler_of,
)

POLL_SECONDS: Final = 1.0
PROGRESS_SECONDS: Final = 10.0
LOST_SECONDS: Final = 30.0
"""How long the API server may be away in the middle of a wait."""
DEFAULT_TIMEOUT_SECONDS: Final = 3600

Say = Callable[[str], None]


class _Document(Struct):
    metadata: wire.Metadata
    spec: Any = None
    status: Any = None


def drain(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="scaler drain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--timeout",
        type=int,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"fail with what is left after this time (default: {DEFAULT_TIMEOUT_SECONDS})",
    )
    parser.add_argument(
        "--namespace",
        default=environ.get(Env.NAMESPACE, ""),
        help=f"of the fleet (default: {Env.NAMESPACE}, as in the scaler's pod)",
    )
    options = parser.parse_args(arguments)
    if not options.namespace:
        parser.error(f"--namespace must be given where {Env.NAMESPACE} is not set")
    if options.timeout < 1:
        parser.error("--timeout must be at least 1")
    return asyncio.run(_drain(options.namespace, options.timeout))


async def _drain(namespace: str, seconds: int) -> int:
    try:
        api = Api(namespace, lambda _verb, _resource, _code: None)
    except ClusterFailure as failure:
        return _failed([failure.sentence])
    try:
        return await _wait(api, seconds)
    except ClusterFailure as failure:
        return _failed([failure.sentence])
    finally:
        await api.close()


async def _wait(api: Api, seconds: int) -> int:
    rules = drain_rules(seconds)
    memory = Memory(started=time.time())
    last_read = last_said = memory.started
    while True:
        try:
            sight = await read(api)
        except ClusterFailure as failure:
            if failure.kind is Kind.FORBIDDEN or time.time() - last_read >= LOST_SECONDS:
                raise
            await asyncio.sleep(POLL_SECONDS)
            continue
        now = last_read = time.time()
        verdict, memory = judge(sight, memory, rules, now)
        match verdict:
            case Empty():
                _say(f"no task is left after {now - memory.started:.0f} s")
                return 0
            case WorkLeft(lines) | Unknown(lines):
                return _failed([*lines, f"after {now - memory.started:.0f} s of at most {seconds} s"])
            case Waiting(sentence) if now - last_said >= PROGRESS_SECONDS:
                _say(f"{now - memory.started:.0f} s: {sentence}")
                last_said = now
        await asyncio.sleep(POLL_SECONDS)


async def read(api: Api) -> Sight:
    """One reading of the namespace, by lists, as the Role has it. Raises ClusterFailure."""
    pools, defined = {}, True
    try:
        async for _, page in api.pages(CELERIES, wire.Celery):
            pools.update(
                {item.metadata.name: left_of(item.metadata.generation, item.status) for item in page}
            )
    except ClusterFailure as failure:
        if failure.kind is not Kind.NOT_FOUND:
            raise
        defined = False
    deployment = None
    async for _, found in api.pages(DEPLOYMENTS, _Document):
        deployment = next((item for item in found if item.metadata.name == SCALER_NAME), deployment)
    if deployment is None:
        return Sight(pools=pools, scaler=None, defined=defined)
    try:
        lease = {"spec": (await api.call("get", LEASES, _Document, name=SCALER_NAME)).spec}
    except ClusterFailure as failure:
        if failure.kind is not Kind.NOT_FOUND:
            raise
        lease = {}
    scaler = scaler_of({"spec": deployment.spec, "status": deployment.status}, lease)
    return Sight(pools=pools, scaler=scaler, defined=defined)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _failed(lines: Sequence[str]) -> int:
    listed = "\n".join(f"- {line}" for line in lines)
    sys.stderr.write(
        f"the fleet is not known to be empty; deleting it now would lose what is left:\n{listed}\n"
    )
    return 1
