"""Owns the images of the servers that a stack brings along: Redis, RabbitMQ 4 and PostgreSQL 17.

Each stands in for a public image (`redis:8.2`, `rabbitmq:4-management`, `postgres:17`) that no registry is
there to give: the same programs on PATH, the same folders and user numbers, so that the stack's manifests
run both without a difference. How their file systems are made is `bases`' part.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .bases import COMMON_PACKAGES, Recipe

# As in the public image: options or a configuration file alone are the server's, and protected mode
# (no answer to other hosts while there is no password) is off; Debian's build has it on.
REDIS_ENTRYPOINT = """\
#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi
case "$*" in
    *protected-mode*) ;;
    redis-server*) set -- "$@" --protected-mode no ;;
esac
exec "$@"
"""
REDIS_SETTINGS = """\
ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]
WORKDIR /data
VOLUME /data
EXPOSE 6379
USER 999:999
CMD ["redis-server"]
"""
RABBITMQ_SETTINGS = """\
ENV PATH=/opt/rabbitmq/sbin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
VOLUME /var/lib/rabbitmq
EXPOSE 5672 15672
USER 999:999
CMD ["rabbitmq-server"]
"""
POSTGRESQL_SETTINGS = """\
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
VOLUME /var/lib/postgresql/data
EXPOSE 5432
USER 999:999
CMD ["postgres"]
"""


def _prepare_redis(root: Path) -> None:
    entrypoint = root / "usr/local/bin/docker-entrypoint.sh"
    entrypoint.parent.mkdir(parents=True, exist_ok=True)
    entrypoint.write_text(REDIS_ENTRYPOINT)
    entrypoint.chmod(0o755)
    _owned(root / "data")


def _prepare_rabbitmq(root: Path) -> None:
    # Debian's programs on PATH refuse to run as anybody but root and `rabbitmq`; the ones below do not.
    (server,) = (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")
    (root / "opt").mkdir(exist_ok=True)
    (root / "opt/rabbitmq").symlink_to(f"/{server.relative_to(root)}")
    (root / "etc/rabbitmq").mkdir(exist_ok=True)
    _owned(root / "var/lib/rabbitmq")


def _prepare_postgresql(root: Path) -> None:
    _owned(root / "var/lib/postgresql/data")
    _owned(root / "var/run/postgresql")


def _owned(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.chown(folder, 999, 999)


REDIS = Recipe(
    name="redis",
    packages=("redis-server", *COMMON_PACKAGES),
    usual="20 s",
    user="redis",
    settings=REDIS_SETTINGS,
    prepare=_prepare_redis,
    sources=(Path(__file__),),
)
RABBITMQ = Recipe(
    name="rabbitmq",
    packages=("rabbitmq-server", "netbase", *COMMON_PACKAGES),
    usual="40 s",
    user="rabbitmq",
    settings=RABBITMQ_SETTINGS,
    prepare=_prepare_rabbitmq,
    sources=(Path(__file__),),
    # A script for remote administration needs it, and ours is done in the container.
    unneeded=("usr/bin/python3*", "usr/lib/python3*", "usr/share/python3*"),
)
POSTGRESQL = Recipe(
    name="postgresql",
    packages=("postgresql-17", *COMMON_PACKAGES),
    usual="40 s",
    user="postgres",
    settings=POSTGRESQL_SETTINGS,
    prepare=_prepare_postgresql,
    sources=(Path(__file__),),
    # 200 MB for compiling queries, which tables of two columns and a key never need.
    unneeded=(
        "usr/lib/postgresql/17/lib/bitcode",
        "usr/lib/postgresql/17/lib/llvmjit*",
        "usr/lib/*/libLLVM*",
    ),
)
SERVERS = (REDIS, RABBITMQ, POSTGRESQL)
