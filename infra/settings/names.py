"""The names that objects of a stack have, made from those that people give. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from scaler import contract

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""A DNS label (RFC 1123), as Kubernetes wants the names of namespaces and Services."""
MAX_POOL_NAME: Final = 63 - len(contract.worker_deployment_name(""))
"""So that `<pool>-celery-worker` is a DNS label, too."""


def object_name(pool: str) -> str:
    """The name of a pool's objects: the pool's own where it is a DNS label, else one made from it.

    So a pool may be named as its queue is. Hex digits of a hash keep `mail_eu` and `mail.eu` apart, and the
    name of one pool does not depend on which others there are.
    """
    if LABEL.fullmatch(pool) and len(pool) <= MAX_POOL_NAME:
        return pool
    digest = hashlib.sha256(pool.encode()).hexdigest()[:6]
    words = re.sub(r"[^a-z0-9]+", "-", pool.lower())[: MAX_POOL_NAME - len(digest) - 1].strip("-")
    return f"{words or 'pool'}-{digest}"
