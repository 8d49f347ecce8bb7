"""Whether a pool can be followed, and if not, why: the condition Ready, its reason and its sentence.

It owns which of several troubles is told. It finds none of them: they are in what a tick saw, and in the
decision. `scaler.pool.pool` asks for it, `scaler.pool.status` writes it down.
"""

from __future__ import annotations

from collections.abc import Sequence

from scaler.broker.backlog import Backlog, BrokerFailure
from scaler.cluster.objects import CeleryObject
from scaler.contract import Mode, Policy, Ready
from scaler.pool.decision import Reason
from scaler.pool.sight import Sight


def ready_of(celery: CeleryObject, policy: Policy | None, sight: Sight, reason: Reason) -> tuple[Ready, str]:
    """The most basic thing that is wrong, for the others follow from it."""
    if celery.invalid is not None or policy is None:
        kept = "the last valid spec is followed" if policy else "nothing is scaled"
        return Ready.INVALID_SPEC, f"{celery.invalid}; {kept}"
    if sight.trouble is not None:
        return Ready.FORBIDDEN, sight.trouble.sentence
    if sight.deployment is None:
        return Ready.DEPLOYMENT_NOT_FOUND, f"there is no Deployment {policy.deployment} in this namespace"
    if reason is Reason.OTHER_SCALER:
        return Ready.OTHER_SCALER, f"{sight.other_scaler} scales {policy.deployment} too: delete one"
    if isinstance(sight.backlog, BrokerFailure):
        return sight.backlog.reason, sight.backlog.sentence
    failure = sight.backlog.failure(policy.queues)
    if failure is not None:
        return failure.reason, failure.sentence
    if lost := sight.lost(policy):
        sentence = (
            f"the workers of {policy.deployment} run, and the broker has no {_queues(lost)}: do they use the "
            "scaler's vhost, and consume by this name?"
        )
        return Ready.QUEUE_NOT_FOUND, sentence
    return Ready.WATCHING, _watching(policy, sight, sight.backlog)


def _watching(policy: Policy, sight: Sight, backlog: Backlog) -> str:
    follows = "is watched in shadow against" if policy.mode is Mode.SHADOW else "follows"
    sentence = f"{policy.deployment} {follows} the {_queues(policy.queues)}"
    if missing := sight.missing(policy):
        sentence += f"; neither worker nor producer has declared the {_queues(missing)} yet"
    return f"{sentence}; {backlog.remark}" if backlog.remark else sentence


def _queues(names: Sequence[str]) -> str:
    return f"{'queue' if len(names) == 1 else 'queues'} {', '.join(names)}"
