"""`python -m scaler explain NAME`: the arithmetic of one decision about one pool, step by step.

It owns the command's words and what a reader is shown. It makes a look of its own, with the scaler's
environment, in the scaler's pod or wherever that environment is; so it needs no running scaler, and says what
it cannot know of one. It writes nothing and asks no worker.

The steps and their sentences are `scaler.pool.trace`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from scaler.contract import Mode
from scaler.onlooker import Judged, look, no_pool, settings_in
from scaler.pool.count import Count
from scaler.pool.decision import Decision, Observation
from scaler.pool.state import State, state_of
from scaler.pool.status import Report
from scaler.pool.trace import Rule, Step, sentence
from scaler.rfc3339 import text_of
from scaler.wiring import Wired

LISTEN_SECONDS: Final = 7.0
"""Three heartbeats of every worker, after which an idle one counts as idle."""

NAMES: Final[Mapping[Rule, str]] = {Rule.STEP_LIMITS: "step limits"}


def explain(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="scaler explain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="of the pool: its Celery object")
    parser.add_argument(
        "--listen",
        type=float,
        default=LISTEN_SECONDS,
        metavar="SECONDS",
        help=f"longest time to hear from workers (default: {LISTEN_SECONDS:g})",
    )
    options = parser.parse_args(arguments)
    settings = settings_in(environ)
    if settings is None:
        return 2
    found: list[tuple[float, Judged]] = []
    names: list[str] = []
    until = time.monotonic() + options.listen

    def take(_scaler: Wired, at: float, judged: Sequence[Judged]) -> bool:
        names[:] = [each.pool.name for each in judged]
        found[:] = [(at, each) for each in judged if each.pool.name == options.name]
        return bool(found) and found[0][1].report.demand.exact is None and time.monotonic() < until

    code = asyncio.run(look(settings, take))
    if code:
        return code
    if not found:
        sys.stderr.write(f"{no_pool(options.name, settings.namespace, names)}\n")
        return 1
    sys.stdout.write("\n".join(lines(*found[0])) + "\n")
    return 0


def lines(at: float, judged: Judged) -> Iterator[str]:
    """What is shown of a look at this time."""
    report, decision = judged.report, judged.report.decision
    yield f"{judged.pool.name}, seen {text_of(at)}: {_head(judged)}"
    if decision is None or report.observation is None:
        yield f"nothing is decided: {report.ready_message} ({report.ready})"
        return
    yield ""
    yield from _inputs(at, judged, report.observation)
    yield ""
    yield "recipe"
    for number, step in enumerate(decision.steps, start=1):
        yield f"{number:>3} {NAMES.get(step.rule, step.rule.value):<12} {sentence(step)}{_led(step)}"
    now = report.observation.spec_replicas
    yield ""
    yield f"outcome   {_outcome(now, decision, shadow=report.shadow)}, {decision.reason}"
    yield f"          {decision.message}"
    if report.ready_message and report.ready != "Watching":
        yield f"          {report.ready}: {report.ready_message}"
    yield from _unknowable(at, judged, decision)


def _inputs(at: float, judged: Judged, seen: Observation) -> Iterator[str]:
    report, policy = judged.report, judged.pool.policy
    yield f"queued    {_figure(seen.queued)} due{_of(report.queued, seen.queued)}"
    yield f"unacked   {_figure(seen.unacked)} due{_of(report.unacked, seen.unacked)}"
    running = "" if report.active is None else f"; {report.active} run in all, by their workers' heartbeats"
    yield f"active    {_figure(seen.active)} running and acknowledged{running}"
    due = "" if seen.next_due is None else f", the next in {max(0.0, seen.next_due - at):.0f} s"
    yield f"not due   {_figure(report.not_due)}{due}"
    if report.stranded:
        yield f"stranded  {report.stranded} of workers that are gone, until the visibility timeout"
    capacity = "" if report.capacity is None else f", {report.capacity} slots that take tasks"
    exist = "? pods exist" if report.replicas is None else f"{report.replicas} pods exist"
    bounds = f", between {policy.min_replicas} and {policy.max_replicas}" if policy else ""
    yield f"replicas  {seen.spec_replicas} asked for{bounds}; {exist}{capacity}"
    leaving = ", ".join(victim.pod for victim in judged.pool.leaving) or "nobody"
    yield f"leaving   {leaving}"


def _figure(count: Count) -> str:
    return "unknown" if count == Count(0, None) else str(count)


def _of(everything: Count, due: Count) -> str:
    return "" if everything == due else f", of {everything} in all"


def _led(step: Step) -> str:
    if step.rule in (Rule.DEMAND, Rule.HOLD):
        return ""
    return f": {step.after}" if step.before == step.after else f": {step.before} becomes {step.after}"


def _head(judged: Judged) -> str:
    """The state, and what keeps the scaler from doing what is decided."""
    state, policy = state_of(judged.report), judged.pool.policy
    words: list[str] = [state]
    if policy is not None and policy.mode is Mode.SHADOW:
        words.append("in shadow")
    if policy is not None and policy.paused and state is not State.PAUSED:
        words.append("paused")
    return ", ".join(words)


def _outcome(now: int, decision: Decision, *, shadow: bool) -> str:
    wanted = decision.desired_replicas
    if wanted == now:
        return f"{now} replicas stay"
    return f"{now} replicas stay, would be {wanted}" if shadow else f"{now} -> {wanted} replicas"


def _unknowable(at: float, judged: Judged, decision: Decision) -> Iterator[str]:
    """What a look of its own cannot know of the running scaler, and what that one said last."""
    stored, policy = judged.pool.written, judged.pool.policy
    yield ""
    yield "This was a look of its own. The running scaler knows more:"
    if policy is not None:
        seconds = policy.behavior.scale_down.stabilization_seconds
        calm = _calm(at, judged.report)
        yield (
            f"- the wishes of the last {seconds} s; without them this look keeps every worker. By the status "
            f"{calm}"
        )
    yield "- what its workers answer when it asks them, as it does before any of them leaves."
    said = stored.get("decision")
    if isinstance(said, Mapping):
        same = said.get("reason") == decision.reason and stored.get("desiredReplicas") == (
            decision.desired_replicas
        )
        agrees = "the same" if same else f"{stored.get('desiredReplicas')} replicas, {said.get('reason')}"
        yield f"Its last word, on the object's status: {agrees}"
        if not same:
            yield f"          {said.get('message')}"
    else:
        yield "It has decided nothing yet: there is no decision on the object's status."


def _calm(at: float, report: Report) -> str:
    since = report.memory.calm_since
    if since is None or since >= at:
        return "it is not calm"
    return f"it has been calm for {at - since:.0f} s"
