"""Where a Deployment runs something else than its `Celery` object says.

It owns the comparison. The scaler goes by the object and changes neither of the two: somebody edited one of
them by hand, and only a person knows which.
"""

from __future__ import annotations

from scaler.cluster.objects import Deployment
from scaler.contract import Policy


def drift(policy: Policy, deployment: Deployment) -> str:
    """The differences in a sentence; "" where none is known, and while a deployment may be under way."""
    found = deployment.runs
    if found is None or deployment.rolling_out:
        return ""
    differences = []
    if policy.image and found.image != policy.image:
        differences.append(f"runs image {found.image}, the object says {policy.image}")
    if found.queues is not None and set(found.queues) != set(policy.queues):
        said = ",".join(policy.queues)
        differences.append(f"takes queues {','.join(found.queues)}, the object says {said}")
    if found.concurrency is not None and found.concurrency != policy.concurrency:
        differences.append(f"has concurrency {found.concurrency}, the object says {policy.concurrency}")
    if not differences:
        return ""
    return f"{deployment.name} {'; '.join(differences)}. The scaler goes by the object"
