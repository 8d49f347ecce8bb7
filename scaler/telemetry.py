"""What the scaler tells about itself: one JSON log line where something changed, and all else passed on.

It owns the log's lines and fields. The figures go to `scaler.metrics` and `scaler.web.board`, each of which
keeps its own form of them. No broker URL ever reaches this file.

`scaler.loop` calls it; nothing here decides or reads.
"""

from __future__ import annotations

import structlog

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import ClusterFailure, Deployment
from scaler.metrics import Metrics
from scaler.pool.pool import Pool
from scaler.pool.status import Report
from scaler.web.board import Board


class Telemetry:
    def __init__(self, log: structlog.stdlib.BoundLogger, metrics: Metrics, board: Board) -> None:
        self._log = log
        self._metrics = metrics
        self._board = board
        self._told: dict[str, object] = {}

    def judged(self, pool: Pool, report: Report, deployment: Deployment | None) -> None:
        self._metrics.judged(pool, report, deployment)
        self._board.judged(pool, report, deployment)
        decision = report.decision
        desired = decision.desired_replicas if decision else None
        leaving = [victim.pod for victim in report.drain.leaving]
        news = (report.news, desired, deployment.spec_replicas if deployment else None, leaving)
        changed = self._told.get(pool.name) != news
        self._told[pool.name] = news
        tell = self._log.info if changed else self._log.debug
        tell(
            "decided",
            pool=pool.name,
            ready=report.ready,
            reason=decision.reason if decision else None,
            message=decision.message if decision else report.ready_message,
            desired=desired,
            replicas=report.replicas,
            queued=str(report.queued),
            unacked=str(report.unacked),
            active=report.active,
            drain=report.drain.message if report.drain.leaving else None,
        )

    def scaled(self, pool: Pool, before: int, after: int) -> None:
        self._metrics.scaled(pool, before, after)
        self._board.scaled(pool, before, after)
        self._log.info("scaled", pool=pool.name, replicas=before, desired=after)

    def forgot(self, name: str) -> None:
        self._metrics.forgot(name)
        self._board.forgot(name)
        self._told.pop(name, None)
        self._log.info("forgot", pool=name)

    def broker_read(self, seconds: float, backlog: Backlog | BrokerFailure) -> None:
        self._metrics.broker_read(seconds, backlog)
        self._board.broker_read(seconds, backlog)
        self._tell_change("broker", backlog.sentence if isinstance(backlog, BrokerFailure) else "broker read")

    def failed(self, doing: str, failure: ClusterFailure) -> None:
        self._metrics.failed(failure.kind)
        self._log.warning("failed", doing=doing, kind=failure.kind, message=failure.sentence)

    def unheard(self, doing: str, failure: str) -> None:
        self._metrics.failed("control")
        self._log.warning("failed", doing=doing, kind="control", message=failure)

    def crashed(self, doing: str, error: Exception) -> None:
        self._metrics.failed("bug")
        self._log.error("crashed", doing=doing, exc_info=error)

    def ticked(self, at: float, *, seconds: float, trouble: str | None, leading: bool) -> None:
        self._metrics.ticked(at, seconds=seconds, good=trouble is None, leading=leading)
        self._board.ticked(at, seconds=seconds, trouble=trouble, leading=leading)
        self._tell_change("lease", "this scaler writes" if leading else "this scaler only observes")

    def _tell_change(self, about: str, message: str) -> None:
        if self._told.get(f"/{about}") != message:
            self._told[f"/{about}"] = message
            self._log.info(about, message=message)
