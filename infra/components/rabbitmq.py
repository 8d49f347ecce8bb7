"""RabbitMQ 4, as the broker of the stack.

It owns RabbitMQ's configuration, its users' rights and the form of its URLs. It is one node that nobody can
join: its cookie is made anew at every start and its own doors are open within the pod only, so there is no
Secret to keep for them. `guest` does not exist, since users are defined before the node is first started.

The management API is what the scaler reads; no other address than the Service's leads to it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from infra.components.server import SHARE, Program, host, memory_share
from infra.settings import Settings
from infra.settings.delivery import consumer_seconds
from scaler import contract

NAME: Final = "rabbitmq"
PORT: Final = 5672
MANAGEMENT_PORT: Final = 15672
VHOST: Final = "celery"
USER: Final = "celery"
SCALER_USER: Final = "celery-scaler"
DATA: Final = "/var/lib/rabbitmq"
FREE_DISK: Final = 256 * 1024**2


def program(settings: Settings) -> Program:
    may = contract.rabbitmq_permissions(settings.control_exchange, settings.event_exchange)
    return Program(
        name=NAME,
        image=settings.rabbitmq_image,
        port=PORT,
        more_ports={"management": MANAGEMENT_PORT},
        resources=settings.rabbitmq_resources,
        persistence=settings.rabbitmq_persistence,
        data=DATA,
        arguments=_configuration(settings),
        env={
            # Part of the data's path, so no pod's name is in it; here, so that `kubectl exec` finds the node.
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "PORT": str(PORT),
            "QUEUE_TYPE": settings.queue_type,
        },
        running={
            "consumer-timeout-ms": str(consumer_seconds(settings) * 1000),
            **{f"scaler-{what}": where for what, where in may.items()},
        },
        # It listens once it has booted. rabbitmq-diagnostics would start an Erlang of its own each time.
        ready={"tcpSocket": {"port": PORT}, "periodSeconds": 5},
    )


def url(settings: Settings, user: str, password: str) -> str:
    return f"amqp://{user}:{quote(password, safe='')}@{host(settings, NAME)}:{PORT}/{VHOST}"


def management_url(settings: Settings, user: str, password: str) -> str:
    return f"http://{user}:{quote(password, safe='')}@{host(settings, NAME)}:{MANAGEMENT_PORT}/{VHOST}"


def _configuration(settings: Settings) -> list[str]:
    """A broker whose memory or disk is full stops publishers; a killed one would stop everybody."""
    most = memory_share(settings.rabbitmq_resources, SHARE)
    return [
        f"vm_memory_high_watermark.absolute = {most}",
        f"disk_free_limit.absolute = {FREE_DISK}",
        "log.console = true",
        "log.console.level = warning",
        "log.file = false",
        "collect_statistics_interval = 5000",
    ]
