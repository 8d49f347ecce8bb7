"""The settings as people meet them: the `config` block of Pulumi.yaml and the table in README.md.

Both are made from `infra.settings.fields`, between markers or below a key, and a test holds them to it.
Whatever else stands in those two files is not touched.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.settings.rules import POOL_SETTINGS, STACK_SETTINGS
from infra.settings.schema import Setting

PULUMI_YAML: Final = Path("Pulumi.yaml")
README: Final = Path("README.md")
BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"

POOLS: Final = Setting(
    name="pools",
    type="object",
    default={},
    meaning="Several pools in one stack: a name, and the keys in which the pool differs from the flat ones "
    "(those marked *pool*). Left empty, the flat keys are one pool named `default`.",
)


OF_POOLS: Final = tuple(POOL_SETTINGS.values())


def settings() -> Iterator[Setting]:
    """In the order of the table: the keys of a pool, `pools`, the stack's."""
    yield from OF_POOLS
    yield POOLS
    yield from STACK_SETTINGS.values()


def config_block() -> str:
    """The `config` key of Pulumi.yaml. Every key has a default, or every stack would have to set it.

    None is marked `secret`: the CLI (3.260) then wants the default, too, to be encrypted in every stack.
    `infra.settings.rules` refuses a password that is not.
    """
    lines = ["config:"]
    for setting in settings():
        # Only keys of the project's own may carry a schema (pulumi/pulumi#11192).
        if ":" in setting.name:
            continue
        lines += [f"  {setting.name}:", f"    type: {setting.type}"]
        if setting.type == "array":
            lines += ["    items:", f"      type: {setting.items}"]
        lines += [f"    default: {json.dumps(setting.default)}"]
        lines += [f"    description: {json.dumps(setting.description, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """Markdown, one row a setting; what `pools` may override is marked."""
    rows = ["| Setting | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    for setting in settings():
        empty = setting.default in ("", (), {})
        default = "" if empty else f"`{json.dumps(setting.default).strip(chr(34))}`"
        marks = [
            setting.type,
            *(["secret"] if setting.secret else []),
            *(["*pool*"] if setting in OF_POOLS else []),
        ]
        rows.append(f"| `{setting.name}` | {', '.join(marks)} | {default} | {setting.description} |")
    return "\n".join(rows) + "\n"


def with_config_block(pulumi_yaml: str) -> str:
    """Pulumi.yaml with a current `config` block, which is its last key."""
    head, _, _ = pulumi_yaml.partition("\nconfig:\n")
    return f"{head.rstrip()}\n{config_block()}"


def with_table(readme: str) -> str:
    """README.md with a current table; unchanged where it has no markers."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return f"{head}{begin}\n{table()}{end}{tail}" if end else readme


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.settings", description="Show the settings.")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--table", action="store_true", help="print the table as Markdown")
    choice.add_argument("--write", action="store_true", help="bring Pulumi.yaml and README.md up to date")
    if parser.parse_args().table:
        print(table(), end="")
        return
    PULUMI_YAML.write_text(with_config_block(PULUMI_YAML.read_text()))
    README.write_text(with_table(README.read_text()))
