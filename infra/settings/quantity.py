"""A quantity of Kubernetes' as a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_UNITS: Final[Mapping[str, float]] = {
    "": 1,
    "m": 0.001,
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)},
}


def number_of(quantity: str) -> float:
    """As `512Mi` or `500m`, in the form that `infra.settings.shapes` lets through."""
    number = quantity.rstrip("kmKMGTPEi")
    return float(number) * _UNITS[quantity.removeprefix(number)]
