"""What a worker's command line says of it.

It owns which options are read and how Celery spells them. What is not said in so many words, for a shell's
line or a variable of the pod, is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from scaler.cluster.objects import Runs
from scaler.contract import InvalidSpec, queues_of


def runs_of(image: str, words: Sequence[str]) -> Runs:
    """`words` are a container's command and arguments."""
    # What follows are settings of the app.
    options = words[: words.index("--")] if "--" in words else words
    concurrency = _option(options, "-c", "--concurrency")
    return Runs(
        image=image,
        queues=_queues(_option(options, "-Q", "--queues")),
        concurrency=int(concurrency) if concurrency is not None and concurrency.isdecimal() else None,
    )


def _option(words: Sequence[str], short: str, long: str) -> str | None:
    for word, following in zip_longest(words, words[1:]):
        if word in (short, long):
            return following
        for prefix in (f"{long}=", short):
            if word.startswith(prefix):
                return word.removeprefix(prefix)
    return None


def _queues(text: str | None) -> tuple[str, ...] | None:
    if text is None or "$(" in text:
        return None
    try:
        return queues_of(text)
    except InvalidSpec:
        return None
