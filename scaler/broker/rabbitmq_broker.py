"""Reads what is in RabbitMQ's queues, and what workers hold of them, as far as RabbitMQ tells.

It owns which question goes where. The management API tells of all queues of the vhost in one request; over
AMQP those are asked for of which its figure is old (any that is not classic), or that it left out. Where no
management API is given, all are asked for over AMQP, and what workers hold is unknown. It writes nothing.

How much of a figure can be believed is in `scaler.broker.rabbitmq_queues`, what waits for its time in
`scaler.broker.delayed_delivery`; `scaler.broker.rabbitmq_management` and `scaler.broker.amqp_channel` ask.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from scaler.broker.amqp_channel import AmqpChannel, Answer, Declared, Unanswered
from scaler.broker.backlog import Backlog, BrokerFailure, Delayed, Unacked
from scaler.broker.delayed_delivery import EXCHANGE, LEVELS, Level
from scaler.broker.rabbitmq_management import Management
from scaler.broker.rabbitmq_queues import (
    CLASSIC,
    NONE_THERE,
    NOTHING_KNOWN,
    Figures,
    Row,
    Watch,
    figures_of_classic,
)
from scaler.broker.url import AmqpUrl, ManagementUrl, UrlFile, UrlUnusable
from scaler.contract import Ready
from scaler.pool.count import Count

ROUTES_SECONDS: Final = 60.0
"""How often it is looked up where delayed messages go; a worker that starts may add a queue."""
AGAIN_SECONDS: Final = 60.0
"""How often a question over AMQP is repeated that was in vain and can be done without: RabbitMQ notes each in
its log."""
UNACKED_UNKNOWN: Final = (
    "without RabbitMQ's management API it is unknown what workers hold, so workers are added and none removed"
)


@dataclass(slots=True)
class _Found:
    figures: dict[str, Figures] = field(default_factory=dict)
    failures: dict[str, BrokerFailure] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def fail(self, queue: str, failure: BrokerFailure) -> None:
        self.figures[queue], self.failures[queue] = NOTHING_KNOWN, failure

    def not_there(self, queue: str) -> None:
        self.figures[queue] = NONE_THERE
        self.missing.add(queue)


class RabbitmqBroker:
    def __init__(self, url: AmqpUrl, management: UrlFile | None) -> None:
        self._url = url
        self._management_file = management
        self._channel = AmqpChannel(url)
        self._management: Management | None = None
        self._management_url: ManagementUrl | None = None
        self._watches: dict[str, Watch] = {}
        self._forbidden_until: dict[str, float] = {}
        self._levels: dict[str, Level] = {}
        self._looked_at: float | None = None
        self._no_levels_until = 0.0
        self._routes: frozenset[str] | None = None
        self._routes_until = 0.0

    async def read(self, queues: Collection[str], at: float) -> Backlog:
        """What these queues hold, now; `at` is now. A queue that does not answer is unknown in the result.

        Raises BrokerFailure where nothing can be read.
        """
        rows, failure = await self._rows()
        if rows is not None:
            return await self._read_by_rows(queues, rows, at)
        # Who knows what happens until it answers again: zeros have to grow old anew.
        self._watches.clear()
        return await self._read_by_amqp(queues, at, failure)

    async def close(self) -> None:
        await self._channel.close()
        if self._management is not None:
            await self._management.close()

    async def _rows(self) -> tuple[dict[str, Row] | None, BrokerFailure | None]:
        """By queue; None where the API is not there, with the failure where it should be."""
        try:
            management = await self._current_management()
            if management is None:
                return None, None
            return {row.name: row for row in await management.queues()}, None
        except BrokerFailure as failure:
            return None, failure

    async def _current_management(self) -> Management | None:
        try:
            url = self._management_file.management() if self._management_file else None
        except UrlUnusable as unusable:
            raise BrokerFailure(unusable.reason, unusable.sentence) from unusable
        if url != self._management_url:
            if self._management is not None:
                await self._management.close()
            self._management_url = url
            self._management = Management(url, self._url.vhost) if url else None
        return self._management

    async def _read_by_rows(self, queues: Collection[str], rows: Mapping[str, Row], at: float) -> Backlog:
        found, failure = _Found(), None
        old = [
            queue for queue in queues if queue in rows and rows[queue].counted and rows[queue].type != CLASSIC
        ]
        asked = [queue for queue in old if at >= self._forbidden_until.get(queue, at)]
        answers: Mapping[str, Answer]
        try:
            # Also where nothing has to be asked: it is how the scaler's credentials are seen to be good.
            answers = await self._channel.lengths(asked)
        except BrokerFailure as refused:
            failure, answers = refused, dict.fromkeys(asked, Unanswered(refused))
        self._watches = {queue: self._watches.get(queue) or Watch() for queue in old}
        for queue in queues:
            row = rows.get(queue)
            if row is None:
                continue
            if not row.counted:
                found.fail(queue, self._silent(queue, f"it is {row.state or 'without a state'}"))
            elif row.type == CLASSIC:
                found.figures[queue] = figures_of_classic(row)
            elif queue in answers:
                self._take_answer(found, row, answers[queue], at)
            else:
                found.figures[queue] = self._watches[queue].figures_of_table(row, at)
        await self._take_left_out(found, [queue for queue in queues if queue not in rows])
        delayed = await self._delayed({name: rows[name] for name in LEVELS if name in rows}, at)
        return self._backlog(found, delayed, at, failure=failure)

    async def _take_left_out(self, found: _Found, queues: Collection[str]) -> None:
        """Queues that the list of figures does not have: is there no such queue, or no answer of it?"""
        if not queues or self._management is None:
            return
        try:
            there = await self._management.names()
        except BrokerFailure as failure:
            for queue in queues:
                found.fail(queue, failure)
            return
        for queue in queues:
            if queue in there:
                found.fail(queue, self._silent(queue, "it does not answer"))
            else:
                found.not_there(queue)

    def _take_answer(self, found: _Found, row: Row, answer: Answer, at: float) -> None:
        watch = self._watches[row.name]
        if answer is None:
            found.not_there(row.name)
        elif isinstance(answer, Declared):
            found.figures[row.name] = watch.figures(row, answer.ready, answer.consumers, at)
        elif answer.forbidden:
            self._forbidden_until[row.name] = at + AGAIN_SECONDS
            found.figures[row.name] = watch.figures_of_table(row, at)
        else:
            found.fail(row.name, answer.failure)

    async def _read_by_amqp(
        self, queues: Collection[str], at: float, failure: BrokerFailure | None
    ) -> Backlog:
        levels = tuple(LEVELS) if at >= self._no_levels_until else ()
        answers = await self._channel.lengths((*queues, *levels[:1]))
        found = _Found()
        for queue in queues:
            answer = answers[queue]
            if answer is None:
                found.not_there(queue)
            elif isinstance(answer, Unanswered):
                found.fail(queue, answer.failure)
            else:
                found.figures[queue] = Figures(Count.exactly(answer.ready), None, None)
        if levels and answers[levels[0]] is None:
            self._no_levels_until, levels = at + AGAIN_SECONDS, ()
        counted = await self._channel.lengths(levels) if levels else {}
        waiting = [answer.ready for answer in counted.values() if isinstance(answer, Declared)]
        complete = len(waiting) == len(levels)
        messages = Count(sum(waiting), sum(waiting) if complete else None)
        delayed = Delayed(messages=messages, queues=None)
        return self._backlog(found, delayed, at, known=False, failure=failure)

    def _backlog(
        self,
        found: _Found,
        delayed: Delayed,
        at: float,
        *,
        known: bool = True,
        failure: BrokerFailure | None = None,
    ) -> Backlog:
        bounds = {queue: figures.unacked for queue, figures in found.figures.items()}
        held = Unacked(at_most=bounds)
        return Backlog(
            at=at,
            lengths={queue: figures.ready for queue, figures in found.figures.items()},
            unacked=held if known else None,
            unacked_later=held,
            unacked_failure=failure,
            failures=found.failures,
            counts_only=True,
            told={queue: each.told for queue, each in found.figures.items() if each.told is not None},
            delayed=delayed,
            missing=frozenset(found.missing),
            remark="" if known or failure else UNACKED_UNKNOWN,
        )

    async def _delayed(self, rows: Mapping[str, Row], at: float) -> Delayed:
        total, certain = 0, not rows or len(rows) == len(LEVELS)
        next_due: list[float] = []
        for name, row in rows.items():
            level = self._levels.setdefault(name, Level(LEVELS[name]))
            messages = max(row.messages or 0, row.ready + row.unacked)
            level.note(messages, at, self._looked_at)
            total += messages
            certain = certain and row.counted and (row.type == CLASSIC or level.certain(at))
            if (due := level.next_due(at)) is not None:
                next_due.append(due)
        self._looked_at = at
        if not total and certain:
            return Delayed()
        return Delayed(
            messages=Count(total, total if certain else None),
            queues=await self._routes_now(at) if total else None,
            next_due=min(next_due, default=None),
        )

    async def _routes_now(self, at: float) -> frozenset[str] | None:
        """The queues that delayed messages can go to; None where that is not known."""
        if at >= self._routes_until and self._management is not None:
            self._routes_until = at + ROUTES_SECONDS
            try:
                self._routes = await _reached(self._management, EXCHANGE)
            except BrokerFailure:
                self._routes = None
        return self._routes

    def _silent(self, queue: str, why: str) -> BrokerFailure:
        sentence = (
            f"{self._url}, queue {queue!r}, cannot be counted: {why}; see `rabbitmq-diagnostics status`"
        )
        return BrokerFailure(Ready.BROKER_NOT_READY, sentence)


async def _reached(management: Management, exchange: str) -> frozenset[str]:
    """All queues behind this exchange; Celery binds it to the exchanges of queues, and those to them."""
    queues: set[str] = set()
    seen, left = {exchange}, [exchange]
    while left:
        for binding in await management.bound_to(left.pop()):
            if binding.destination_type == "queue":
                queues.add(binding.destination)
            elif binding.destination not in seen:
                seen.add(binding.destination)
                left.append(binding.destination)
    return frozenset(queues)
