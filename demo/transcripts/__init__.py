"""What the commands of the README really printed: `python -m demo.transcripts NAME`, with `pulumi` on PATH.

Each page is a module that tells one story; `page` runs its commands, in a copy of the project, just as they
are shown. A step whose promise does not hold ends the story, and nothing is written.
"""
