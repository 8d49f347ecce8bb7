"""The pairs of broker and result backend that the end-to-end cases run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

BACKENDS: Final[Mapping[str, Mapping[str, str]]] = {
    "redis + redis": {},
    "quorum + postgresql": {"broker": "rabbitmq", "queueType": "quorum", "resultBackend": "postgresql"},
    "classic + postgresql": {"broker": "rabbitmq", "queueType": "classic", "resultBackend": "postgresql"},
}
SLICE_OF_REDIS: Final = [
    "redis + redis",
    pytest.param("quorum + postgresql", marks=pytest.mark.slow),
    pytest.param("classic + postgresql", marks=pytest.mark.slow),
]
"""For a case that `make test` runs on Redis, and `make test-all` on all of them."""
