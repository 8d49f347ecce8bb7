"""`python -m scaler status`: all pools of the namespace in one table, by what the scaler last said of them.

It owns the command's words, the table and its JSON. It reads the `Celery` objects and the scaler's Lease with
the rights of the scaler's Role, in the scaler's pod or wherever there is a kubeconfig, and writes nothing.
What the status leaves out is unknown: `?` in the table, null in JSON, never 0.

The state word is `scaler.pool.state`'s, the status `scaler.pool.status`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from msgspec import Struct

from scaler.cluster import wire
from scaler.cluster.client import Api
from scaler.cluster.namespace import CELERIES, LEASES
from scaler.cluster.objects import CeleryObject, ClusterFailure, Kind
from scaler.contract import SCALER_NAME, Env
from scaler.pool.state import state_in
from scaler.rfc3339 import seconds_of

WATCH_SECONDS: Final = 2.0
STALE_SECONDS: Final = 30.0
"""Age of the Lease's last renewal, by our own clock, from which the figures are called old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pool; None is unknown."""

    name: str
    state: str
    queued: int | None
    unacked: int | None
    active: int | None
    not_due: int | None
    capacity: int | None
    replicas: int | None
    desired: int | None
    min: int | None
    max: int | None
    mode: str | None
    """`active` or `shadow`; None, as of the limits and `paused`, where the spec is invalid."""
    paused: bool | None
    reason: str
    message: str


class _Document(Struct):
    metadata: wire.Metadata
    spec: Any = None


def status(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="scaler status", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document; with --watch, one a line")
    parser.add_argument("--watch", action="store_true", help=f"again each {WATCH_SECONDS:g} s, until Ctrl-C")
    parser.add_argument(
        "--namespace",
        default=environ.get(Env.NAMESPACE, ""),
        help=f"of the fleet (default: {Env.NAMESPACE}, as in the scaler's pod)",
    )
    options = parser.parse_args(arguments)
    if not options.namespace:
        parser.error(f"--namespace must be given where {Env.NAMESPACE} is not set")
    try:
        return asyncio.run(_status(options.namespace, as_json=options.json, watch=options.watch))
    except KeyboardInterrupt:
        return 0
    except ClusterFailure as failure:
        sys.stderr.write(f"{failure.sentence}\n")
        return 1


async def _status(namespace: str, *, as_json: bool, watch: bool) -> int:
    api = Api(namespace, lambda _verb, _resource, _code: None)
    try:
        text = await _look(api, namespace, as_json=as_json)
        while True:
            clear = watch and not as_json and sys.stdout.isatty()
            # Cursor home, "erase to the end of the line", "erase below": a cleared screen would flicker.
            sys.stdout.write("\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J" if clear else text)
            sys.stdout.flush()
            if not watch:
                return 0
            await asyncio.sleep(WATCH_SECONDS)
            try:
                text = await _look(api, namespace, as_json=as_json)
            except ClusterFailure as failure:
                text = "" if as_json else text
                sys.stderr.write(f"{failure.sentence}\n")
    finally:
        await api.close()


async def _look(api: Api, namespace: str, *, as_json: bool) -> str:
    rows, at = await read(api), time.time()
    note = await note_of(api, at)
    if as_json:
        pools = [_camel(asdict(row)) for row in rows]
        return json.dumps({"namespace": namespace, "at": at, "note": note, "pools": pools}) + "\n"
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = table(rows) if rows else [f"there is no pool in namespace {namespace}"]
    return "".join(f"{line[:width]}\n" for line in [*lines, *([note] if note else [])])


async def read(api: Api) -> list[Row]:
    """By name. Raises ClusterFailure."""
    rows = []
    async for _, page in api.pages(CELERIES, wire.Celery):
        extracts = [wire.celery_extract(item, None) for item in page]
        rows += [row_of(celery) for celery in extracts if celery is not None]
    return sorted(rows, key=lambda row: row.name)


async def note_of(api: Api, at: float) -> str | None:
    """Why the figures may be out of date, if they may."""
    try:
        lease = (await api.call("get", LEASES, _Document, name=SCALER_NAME)).spec
    except ClusterFailure as failure:
        if failure.kind is not Kind.NOT_FOUND:
            raise
        lease = None
    if not isinstance(lease, Mapping) or not lease.get("holderIdentity"):
        return "no scaler runs here: the figures are as the last one left them"
    renewed = seconds_of(lease.get("renewTime"))
    if renewed is None or at - renewed > STALE_SECONDS:
        ago = "at an unknown time" if renewed is None else f"{at - renewed:.0f} s ago"
        return f"{lease['holderIdentity']} renewed its Lease {ago}: the figures may be that old"
    return None


def row_of(celery: CeleryObject) -> Row:
    """One pool by its stored status."""
    stored, policy = celery.stored_status, celery.policy
    said = _mapping(stored.get("decision"))
    ready = next((item for item in _mappings(stored.get("conditions")) if item.get("type") == "Ready"), {})
    if not stored:
        said = {"message": "no scaler has looked at it yet"}
    elif ready.get("status") != "True":
        said = ready
    return Row(
        name=celery.name,
        state=state_in(stored),
        queued=_number(stored.get("queued")),
        unacked=_number(stored.get("unacked")),
        active=_number(stored.get("active")),
        not_due=_number(stored.get("notDue")),
        capacity=_number(stored.get("capacity")),
        replicas=_number(stored.get("replicas")),
        desired=_number(stored.get("desiredReplicas")),
        min=policy.min_replicas if policy else None,
        max=policy.max_replicas if policy else None,
        mode=policy.mode.value if policy else None,
        paused=policy.paused if policy else None,
        reason=str(said.get("reason", "")),
        message=str(said.get("message", "")),
    )


def table(rows: Sequence[Row]) -> list[str]:
    """The lines, numbers to the right."""
    head = ["POOL", "STATE", "QUEUED", "UNACKED", "ACTIVE", "NOT DUE", "SLOTS", "REPLICAS", "MIN..MAX"]
    cells = [
        [
            row.name,
            row.state,
            *map(_shown, (row.queued, row.unacked, row.active, row.not_due, row.capacity)),
            f"{_shown(row.replicas)} -> {_shown(row.desired)}",
            f"{_shown(row.min)}..{_shown(row.max)}",
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    said = ["REASON: MESSAGE", *(f"{row.reason}: {row.message}".removeprefix(": ") for row in rows)]
    return [
        "  ".join(
            [
                *(f"{cell:{'<' if place < 2 else '>'}{widths[place]}}" for place, cell in enumerate(line)),
                last,
            ]
        ).rstrip()
        for line, last in zip([head, *cells], said, strict=True)
    ]


def _shown(figure: int | None) -> str:
    return "?" if figure is None else str(figure)


def _camel(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"notDue" if name == "not_due" else name: value for name, value in row.items()}


def _number(figure: object) -> int | None:
    return figure if type(figure) is int else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
