"""What the board knows, as JSON: the fleet, a row for each pool, and one pool with its past.

It owns the fields' names and meanings; docs/page.md lists them. Times are seconds since the epoch. A figure
that is not known is null, never 0. No broker URL can get here: the board has none, and the sentences about
the broker name its host only.

`scaler.web.server` sends them, `scaler.web.static` draws them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from scaler.contract import Mode, Policy, Ready
from scaler.pool import trace
from scaler.pool.count import UNKNOWN, Count
from scaler.pool.state import state_of
from scaler.pool.status import Report
from scaler.web.board import Board, Followed
from scaler.web.commands import commands
from scaler.web.links import Links

SPARK_POOLS = 60
"""Pools up to which each row has a small chart of its last hour."""
SPARK_PIECES = 60


def head(board: Board, links: Links) -> dict[str, Any]:
    """How scaler, broker and cluster are."""
    return {
        "namespace": board.namespace,
        "stack": links.stack_name or None,
        "at": board.at,
        "pollSeconds": board.poll_seconds,
        "tickSeconds": round(board.seconds, 3),
        "nextPollAt": None if board.at is None else round(board.at + board.poll_seconds, 3),
        "staleAfterSeconds": board.patience_seconds,
        "goodAt": board.good_at,
        "trouble": board.trouble,
        "leading": board.leading,
        "broker": {
            "up": None if not board.reads else board.broker_failure is None,
            "message": board.broker_failure,
            "readSeconds": _rounded(board.reads[-1] if board.reads else None, 5),
            "slowestReadSeconds": _rounded(max(board.reads, default=None), 5),
        },
        "links": {"stack": links.stack, "flower": links.flower, "grafana": links.grafana},
    }


def row(followed: Followed) -> dict[str, Any]:
    """The figures of one pool as the last tick had them."""
    report, policy, deployment = followed.report, followed.policy, followed.deployment
    decision, flow, seen = report.decision, report.flow, report.observation
    known = report.demand != UNKNOWN
    return {
        "name": followed.name,
        "state": state_of(report),
        "queues": policy.queues if policy else None,
        "mode": policy.mode if policy else None,
        "paused": policy.paused if policy else None,
        "ready": report.ready,
        "problem": None if report.ready is Ready.WATCHING else report.ready_message,
        "reason": decision.reason if decision else report.ready,
        "message": decision.message if decision else report.ready_message,
        "limited": decision.limited if decision else None,
        "queued": report.queued.exact,
        "queuedAtLeast": _at_least(report.queued),
        "unacked": report.unacked.exact,
        "active": report.active,
        "notDue": report.not_due.exact,
        "nextDueAt": report.next_due,
        "stranded": report.stranded,
        "demand": report.demand.exact,
        "demandAtLeast": report.demand.low if known else None,
        "demandAtMost": report.demand.high,
        "capacity": report.capacity,
        "replicas": report.replicas,
        "readyReplicas": deployment.ready_replicas if deployment else None,
        "specReplicas": deployment.spec_replicas if deployment else None,
        "desiredReplicas": decision.desired_replicas if decision else None,
        "minReplicas": policy.min_replicas if policy else None,
        "maxReplicas": policy.max_replicas if policy else None,
        "draining": len(report.drain.leaving),
        "arrivalsPerSecond": _rounded(flow.arrivals_per_second if flow else None, 2),
        "begunPerSecond": _rounded(flow.begun_per_second if flow else None, 2),
        "otherScaler": seen.other_scaler if seen else None,
        "lastScaleAt": report.last_scale_at,
    }


def fleet(board: Board, links: Links, rows: Iterable[bytes]) -> dict[str, Any]:
    return {**head(board, links), "pools": [msgspec.Raw(each) for each in rows]}


def spark(followed: Followed, at: float | None) -> list[int | None] | None:
    """The highest demand of each of the last 60 minutes."""
    return None if at is None else followed.track.peaks(at, SPARK_PIECES)


def pool(board: Board, links: Links, followed: Followed, *, since: float | None = None) -> dict[str, Any]:
    """One pool with its last hour, or with what is newer than `since`."""
    return {
        **head(board, links),
        "pool": {
            **row(followed),
            **(_spec(followed.policy) if followed.policy else {}),
            **_detail(followed.report),
            "commands": commands(
                board.namespace,
                followed.name,
                followed.policy,
                stack=links.stack_name,
                settings=followed.settings,
            ),
        },
        "log": followed.logbook.since(since),
        "history": {**followed.track.since(since), "scaled": followed.marks.since(since)},
    }


def unknown_pool(name: str, names: Iterable[str]) -> dict[str, Any]:
    return {"error": f"there is no pool {name!r}", "pools": sorted(names)}


def _spec(policy: Policy) -> dict[str, Any]:
    return {
        "deployment": policy.deployment,
        "averageValue": policy.average_value,
        "concurrency": policy.concurrency,
        "drainSeconds": policy.drain_seconds,
        "shadow": policy.mode is Mode.SHADOW,
    }


def _detail(report: Report) -> dict[str, Any]:
    return {
        "calmSince": report.memory.calm_since,
        "leaving": [{"pod": victim.pod, "since": victim.since} for victim in report.drain.leaving],
        "drainReason": report.drain.reason,
        "drainMessage": report.drain.message,
        "steps": trace.document(report.decision.steps) if report.decision else [],
    }


def _at_least(count: Count) -> int | None:
    return None if count == UNKNOWN else count.low


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
