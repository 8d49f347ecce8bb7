"""Times as Kubernetes writes them: RFC 3339 in UTC, and seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def text_of(at: float) -> str:
    """With microseconds, as metav1.MicroTime: 2026-11-23T10:00:00.250000Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(text: object) -> float | None:
    """Seconds since the epoch, or None where the text is no time with a zone."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
