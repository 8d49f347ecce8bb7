"""What a stack declares that works and is unwise: each finding with its consequence and its cure.

It owns the rules about settings that are right one by one and wrong together, as pure functions. Where a
rule speaks of tasks that are lost or run twice, `production: true` makes an error of it, which
`infra.settings` raises together with the wrong keys; the rest are warnings, shown at every preview. What
needs the cluster (an HPA on the same Deployment, say) is in `infra.live.preflight`.

It judges by what is declared: of a task's duration by `longestTaskSeconds`, of what the app configures
for itself by Celery's defaults. Where nothing is declared it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from infra.settings import delivery
from infra.settings.celery_options import Option, options_of
from infra.settings.fields import Settings
from infra.settings.pool import Pool
from infra.settings.problem import Place, Problem
from infra.settings.rules import POOL_SETTINGS
from scaler import contract

STOP_SECONDS: Final = 10
"""What a worker takes to stop, beside its tasks. Measured: 1.7 s, by an idle one with a CPU of its own."""
LONG_TASK_SECONDS: Final = 60
"""From here on a task that waits behind another one waits longer than a new worker takes to start."""
MOST_SHARE_SECONDS: Final = 3600
"""What one worker's share of the queue may take it, if all of its tasks are of the longest kind."""
GOOD_SHARE_SECONDS: Final = 600


class Severity(StrEnum):
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    problem: Problem


@dataclass(frozen=True, slots=True)
class Declared:
    """One pool, as a rule looks at it."""

    pool: Pool
    places: Mapping[str, Place]
    """Field to the layer of configuration that its value comes from."""
    about_tasks: Severity
    """How bad it is here to lose a task, or to run it twice."""

    def finding(self, severity: Severity, field: str, wrong: str, effect: str, cure: object) -> Finding:
        """About one setting; `cure` is a better value."""
        name, place = POOL_SETTINGS[field].name, self.places[field]
        command = place.set_command(name, cure)
        return Finding(severity, Problem(key=place.key(name), wrong=wrong, effect=effect, command=command))


def findings(settings: Settings, places: Mapping[str, Mapping[str, Place]]) -> Iterator[Finding]:
    """All of them; `places` are those of each pool, by its name."""
    about_tasks = Severity.ERROR if settings.production else Severity.WARNING
    pools = [Declared(pool, places[pool.name], about_tasks) for pool in settings.pools]
    if not pools:
        return  # each entry of `pools` is wrong, which is said already
    if settings.production:
        yield from (finding for pool in pools for finding in _undeclared(pool))
    yield from _visibility_timeout(settings, about_tasks)
    for pool in pools:
        for rule in _RULES:
            yield from rule(pool)
        yield from _prefetch(pool, delivery.visibility_seconds(settings))


def _undeclared(declared: Declared) -> Iterator[Finding]:
    if not declared.pool.longest_task_seconds:
        yield declared.finding(
            Severity.WARNING,
            "longest_task_seconds",
            "is not declared",
            "nothing tells whether gracePeriodSeconds and visibilityTimeoutSeconds cover the longest task",
            "<seconds>",
        )


def _grace_period(declared: Declared) -> Iterator[Finding]:
    """The scaler waits for a worker's tasks before it removes it; whatever else stops a pod does not."""
    pool = declared.pool
    soft, longest = pool.soft_shutdown_timeout_seconds, pool.longest_task_seconds
    needed = (soft or longest) + STOP_SECONDS
    if not (soft or longest) or pool.grace_period_seconds >= needed:
        return
    if soft:
        what = f"the soft shutdown's {soft} s"
        effect = (
            "Kubernetes kills a stopping worker before it gives its tasks back: they come back only after "
            "the visibility timeout"
        )
    else:
        what = f"the longest task's {longest} s"
        effect = (
            "a roll-out, a node that is emptied or a destroy kills tasks that still run: they are lost, or "
            "with acksLate run again after the visibility timeout"
        )
    wrong = f"{pool.grace_period_seconds} s are less than {what} and {STOP_SECONDS} s to stop in"
    yield declared.finding(declared.about_tasks, "grace_period_seconds", wrong, effect, needed)


def _soft_shutdown(declared: Declared) -> Iterator[Finding]:
    """Measured with Celery 5.7: what was acknowledged early and still runs is killed and gone."""
    pool = declared.pool
    soft = pool.soft_shutdown_timeout_seconds
    if soft and not pool.acks_late and not 0 < pool.longest_task_seconds <= soft:
        yield declared.finding(
            declared.about_tasks,
            "acks_late",
            f"is not set, and a stopping worker ends its tasks after {soft} s of soft shutdown",
            "a task that still runs then is lost: its message was acknowledged when it began",
            "true",
        )


def _visibility_timeout(settings: Settings, severity: Severity) -> Iterator[Finding]:
    """One for the stack, judged by the pool that needs it longest."""
    timeout = delivery.visibility_seconds(settings)
    pool = max(settings.pools, key=lambda pool: pool.longest_task_seconds + pool.eta_horizon_seconds)
    longest, eta = pool.longest_task_seconds, pool.eta_horizon_seconds
    if timeout >= longest + eta:
        return
    given = "visibility_timeout" in settings.broker_transport_options
    key = "brokerTransportOptions.visibility_timeout" if given else "visibilityTimeoutSeconds"
    whose = "" if given or settings.visibility_timeout_seconds else ", kombu's default,"
    parts = [f"longest task ({longest} s)"] * bool(longest) + [f"furthest ETA ({eta} s)"] * bool(eta)
    yield Finding(
        severity,
        Problem(
            key=key,
            wrong=f"{timeout:.0f} s{whose} are less than pool {pool.name}'s {' and '.join(parts)}",
            effect="Redis gives such a task to a second worker while the first still has it: it runs twice",
            command=Place().set_command(key, max(map(delivery.held_seconds, settings.pools))),
        ),
    )


def _prefetch(declared: Declared, visibility_seconds: float) -> Iterator[Finding]:
    pool = declared.pool
    longest, held = pool.longest_task_seconds, delivery.prefetched(pool)
    covered = visibility_seconds >= longest + pool.eta_horizon_seconds
    if covered and visibility_seconds < delivery.held_seconds(pool):
        eta = f" after an ETA of {pool.eta_horizon_seconds} s" if pool.eta_horizon_seconds else ""
        yield declared.finding(
            Severity.WARNING,
            "prefetch_multiplier",
            f"a process may hold {held} messages for {held} x {longest} s{eta}, and the visibility timeout "
            f"is {visibility_seconds:.0f} s",
            "Redis gives the last of them to a second worker before their turn comes: they run twice",
            1,
        )
    elif longest >= LONG_TASK_SECONDS and held > 1:
        whose = "" if pool.prefetch_multiplier else ", Celery's default,"
        yield declared.finding(
            Severity.WARNING,
            "prefetch_multiplier",
            f"{held}{whose} lets a process hold {held} tasks of up to {_duration(longest)}",
            "they wait behind the running one while other workers, new ones too, have nothing to do",
            1,
        )


def _extra_args(declared: Declared) -> Iterator[Finding]:
    place = declared.places["extra_args"]
    for option in options_of(declared.pool.extra_args):
        said = _of_option(option, declared.about_tasks)
        if said is None:
            continue
        severity, wrong, effect, advice = said
        key = f"extraArgs[{option.index}]"
        if option.value:  # the option stays, with Celery's own value
            argument = declared.pool.extra_args[option.value_index].removesuffix(option.value) + "prefork"
            command = place.set_command(f"extraArgs[{option.value_index}]", argument)
        else:
            command = place.remove_command(key)
        yield Finding(
            severity, Problem(key=place.key(key), wrong=wrong, effect=effect, command=advice + command)
        )


def _of_option(option: Option, about_tasks: Severity) -> tuple[Severity, str, str, str] | None:
    """Severity, what is wrong, its effect, and words before the command."""
    match option.name, option.value:
        case "beat", _:
            return (
                about_tasks,
                "runs Celery beat in every worker of a pool that is scaled",
                "each scheduled task is sent once by every worker, and by none where none runs",
                "run it once, in a pod of its own: pulumi config set beat true, and: ",
            )
        case "purge", _:
            return (
                Severity.ERROR,
                "--purge empties the queues whenever a worker starts",
                "every growth of the pool, every roll-out and every restart deletes what waits",
                "",
            )
        case "without-heartbeat", _:
            return (
                Severity.WARNING,
                "--without-heartbeat keeps the workers silent",
                "the scaler cannot tell which are idle, so it takes none away, and which hang",
                "",
            )
        case "pool", "solo":
            return (
                Severity.WARNING,
                "a worker of the solo pool answers nothing while it runs a task",
                "the scaler cannot tell a busy worker from a dead one, so it takes none away",
                "",
            )
    return None


def _average_value(declared: Declared) -> Iterator[Finding]:
    pool = declared.pool
    average, concurrency, longest = pool.average_value, pool.concurrency, pool.longest_task_seconds
    if average < concurrency:
        yield declared.finding(
            Severity.WARNING,
            "average_value",
            f"a worker is meant for {average} messages and runs {concurrency} at a time",
            "the pool starts more workers than it can keep busy",
            concurrency,
        )
    elif longest and average > concurrency and average * longest > concurrency * MOST_SHARE_SECONDS:
        share = _duration(average * longest // concurrency)
        yield declared.finding(
            Severity.WARNING,
            "average_value",
            f"{average} tasks of up to {_duration(longest)} keep one worker busy for up to {share}",
            "the last of them waits that long although the pool may have more workers",
            max(concurrency, GOOD_SHARE_SECONDS * concurrency // longest),
        )


def _drain(declared: Declared) -> Iterator[Finding]:
    pool = declared.pool
    if 0 < pool.drain_seconds < pool.longest_task_seconds:
        yield declared.finding(
            Severity.WARNING,
            "drain_seconds",
            f"{pool.drain_seconds} s are less than the longest task's {pool.longest_task_seconds} s",
            "a worker that runs one stops consuming, is kept and begins again: the pool stays too large",
            0,
        )


def _scale_to_zero(declared: Declared) -> Iterator[Finding]:
    pool = declared.pool
    rules = pool.behavior.get("scaleDown", {})
    calm = rules.get("stabilizationWindowSeconds", contract.DEFAULT_CALM_SECONDS)
    if pool.min_replicas == 0 and calm < contract.DEFAULT_CALM_SECONDS:
        place = declared.places["behavior"]
        path = "behavior.scaleDown.stabilizationWindowSeconds"
        yield Finding(
            Severity.WARNING,
            Problem(
                key=place.key(path),
                wrong=f"{calm} s of calm stop the last worker, since minReplicas is 0",
                effect="a short pause between tasks stops it, and the next task waits for a pod to start",
                command=place.set_command(path, contract.DEFAULT_CALM_SECONDS),
            ),
        )


def _duration(seconds: int) -> str:
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if seconds >= 120 else f"{seconds} s"


_RULES: Final[tuple[Callable[[Declared], Iterator[Finding]], ...]] = (
    _grace_period,
    _soft_shutdown,
    _extra_args,
    _average_value,
    _drain,
    _scale_to_zero,
)
