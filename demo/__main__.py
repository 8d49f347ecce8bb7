"""The command line: `python -m demo up|down|watch`. Only words and exit codes live here."""

from __future__ import annotations

import argparse
import sys

from demo import story
from demo.commands import DemoError

ACTIONS = {"up": story.up, "down": story.down, "watch": story.watch}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="A stack from nothing, a flood, and away again."
    )
    parser.add_argument("action", choices=ACTIONS)
    try:
        ACTIONS[parser.parse_args().action]()
    except DemoError as trouble:
        print(f"demo: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
