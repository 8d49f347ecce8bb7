"""Owns the choice of the page: `python -m demo.transcripts ordinary_life | destroy | rotation`."""

from __future__ import annotations

import argparse
import sys

from demo.commands import DemoError
from demo.transcripts import destroy, ordinary_life, rotation
from demo.transcripts.page import Page, open_page

STORIES = {"ordinary_life": ordinary_life, "destroy": destroy, "rotation": rotation}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.transcripts")
    parser.add_argument("page", choices=STORIES)
    story = STORIES[parser.parse_args().page]
    try:
        with open_page(story.HEAD, story.STACKS) as page:
            story.tell(page)
        _write(page, story.FILE)
    except DemoError as trouble:
        print(f"transcript: {trouble}", file=sys.stderr)
        return 1
    return 0


def _write(page: Page, file: str) -> None:
    page.folder.mkdir(exist_ok=True)
    (page.folder / file).write_text(page.text)


if __name__ == "__main__":
    sys.exit(main())
