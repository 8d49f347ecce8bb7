"""PostgreSQL, as the result backend of the stack.

It owns PostgreSQL's options and the form of its URL. Its database `celery` holds the two tables that Celery
makes for itself; expired results are `infra.components.result_cleaner`'s matter.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from infra.components.server import Program, host
from infra.settings import Settings
from infra.settings.delivery import connections

NAME: Final = "postgresql"
PORT: Final = 5432
DATABASE: Final = "celery"
USER: Final = "celery"
SYSTEM_USER: Final = 999
"""`postgres` in the public image: initdb wants to run as somebody who has a name."""
ASK: Final = f"psql --dbname={DATABASE} --quiet --command='SELECT 1'"


def program(settings: Settings) -> Program:
    return Program(
        name=NAME,
        image=settings.postgresql_image,
        port=PORT,
        resources=settings.postgresql_resources,
        persistence=settings.postgresql_persistence,
        data="/var/lib/postgresql/data",
        arguments=["-c", f"max_connections={connections(settings.postgresql_resources)}"],
        env={"PGHOST": "/tmp/socket", "PGUSER": "postgres"},  # noqa: S108  # in the container
        # The database is made after the first start.
        ready={"exec": {"command": ["sh", "-c", ASK]}, "periodSeconds": 10, "timeoutSeconds": 5},
        user=SYSTEM_USER,
    )


def url(settings: Settings, user: str, password: str) -> str:
    """The driver is the one that the image's SQLAlchemy takes for PostgreSQL."""
    return f"db+postgresql://{user}:{quote(password, safe='')}@{host(settings, NAME)}:{PORT}/{DATABASE}"
