"""The table in docs/metrics.md, made from the metrics themselves: `python -m demo.metrics_page [--write]`.

It owns the table between its markers; names, types, labels and meanings are what the registry of a scaler
says that has lived for a while among the fakes of its tests, so that each metric has a series. A test holds
the page to it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.scaler.shown import Shown

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
BEGIN: Final = "<!-- metrics:begin -->"
END: Final = "<!-- metrics:end -->"


def with_table(page: str) -> str:
    """The page with a current table."""
    shown = Shown()
    asyncio.run(shown.live())
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{''.join(_rows(shown))}{END}{tail}"


def _rows(shown: Shown) -> Iterator[str]:
    yield "| name | type | labels | meaning |\n| --- | --- | --- | --- |\n"
    for metric in shown.metrics.registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
        named = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {metric.type} | {named} | {metric.documentation} |\n"


def main(arguments: Sequence[str]) -> int:
    page = with_table(PAGE.read_text())
    if arguments[:1] == ["--write"]:
        PAGE.write_text(page)
    else:
        sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
