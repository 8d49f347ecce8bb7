"""The scaler's environment, read once at the start and checked as a whole.

It owns what each variable may hold; their names are in `scaler.contract.Env`, and who sets them is
`infra.components.autoscaler`. It does not read the broker's URL: the file may change while the scaler runs,
so `scaler.broker.url.UrlFile` is read by whoever connects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scaler.broker.redis_layout import Layout, layout_of
from scaler.broker.url import UrlFile
from scaler.contract import Env
from scaler.web.links import Links, link_of, prefix_of

DEFAULT_POLL_SECONDS: Final = 2.0
MIN_POLL_SECONDS: Final = 0.5
MAX_POLL_SECONDS: Final = 60.0
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


class WrongEnvironment(ValueError):  # noqa: N818  # said in full in the message
    """The message has one line for each variable that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    namespace: str
    """The only namespace that is watched and written."""
    pod_name: str
    """Identity on the Lease and in events; a container that restarts in its pod keeps it."""
    broker_url_file: UrlFile
    """Holds the URL that Celery uses; a mounted Secret, so a rotated password needs no restart."""
    management_url_file: UrlFile | None = None
    """Where it is there: the URL of RabbitMQ's management API, which tells what workers hold."""
    layout: Layout
    """Where kombu keeps things, from the app's `broker_transport_options`."""
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    """The same, as the app has them."""
    control_exchange: str = "celery"
    """The app's setting of that name: where workers are asked and told to stop consuming."""
    event_exchange: str = "celeryev"
    """The app's setting of that name: where heartbeats come."""
    handshake: bool = True
    """False lowers the replicas without a drain, and tasks are killed: only for the test that proves that
    the ledger would notice. No stack setting leads here."""
    poll_seconds: float
    """Time from one tick's begin to the next. Lower reacts sooner and asks the broker more often."""
    links: Links = field(default_factory=Links)
    """Where the page lives, and what it links to."""
    log_level: str


def load(environ: Mapping[str, str]) -> Settings:
    """Read and check every variable. Raises WrongEnvironment with all that is wrong."""
    wrong: list[str] = []

    def required(name: Env) -> str:
        value = environ.get(name, "").strip()
        if not value:
            wrong.append(f"{name} must be set")
        return value

    namespace, pod_name = required(Env.NAMESPACE), required(Env.POD_NAME)
    ca_file = Path(environ[Env.BROKER_CA_FILE]) if environ.get(Env.BROKER_CA_FILE) else None
    url_file = UrlFile(Path(required(Env.BROKER_URL_FILE)), ca_file)
    management = environ.get(Env.BROKER_MANAGEMENT_URL_FILE, "").strip()
    layout, options = _layout(environ.get(Env.BROKER_TRANSPORT_OPTIONS, ""), wrong)
    settings = Settings(
        namespace=namespace,
        pod_name=pod_name,
        broker_url_file=url_file,
        management_url_file=UrlFile(Path(management), ca_file) if management else None,
        layout=layout,
        transport_options=options,
        control_exchange=environ.get(Env.CONTROL_EXCHANGE) or "celery",
        event_exchange=environ.get(Env.EVENT_EXCHANGE) or "celeryev",
        handshake=_handshake(environ.get(Env.HANDSHAKE, ""), wrong),
        poll_seconds=_poll_seconds(environ.get(Env.POLL_SECONDS, ""), wrong),
        links=Links(
            prefix=_checked(prefix_of, Env.PAGE_PREFIX, environ, wrong) or "",
            stack_name=environ.get(Env.STACK, "").strip(),
            stack=_checked(link_of, Env.STACK_URL, environ, wrong),
            flower=_checked(link_of, Env.FLOWER_URL, environ, wrong),
            grafana=_checked(link_of, Env.GRAFANA_URL, environ, wrong),
        ),
        log_level=_log_level(environ.get(Env.LOG_LEVEL, ""), wrong),
    )
    if wrong:
        raise WrongEnvironment("\n".join(wrong))
    return settings


def _handshake(text: str, wrong: list[str]) -> bool:
    if text not in ("", "on", "off"):
        wrong.append(f"{Env.HANDSHAKE} must be on or off, not {text!r}")
    return text != "off"


def _layout(text: str, wrong: list[str]) -> tuple[Layout, Mapping[str, Any]]:
    try:
        options = json.loads(text or "{}")
        if not isinstance(options, dict):
            raise ValueError("must be a JSON object")
        return layout_of(options), options
    except ValueError as error:
        wrong.extend(f"{Env.BROKER_TRANSPORT_OPTIONS}: {line}" for line in str(error).splitlines())
        return Layout(), {}


def _poll_seconds(text: str, wrong: list[str]) -> float:
    try:
        seconds = float(text or DEFAULT_POLL_SECONDS)
    except ValueError:
        seconds = math.nan
    if not MIN_POLL_SECONDS <= seconds <= MAX_POLL_SECONDS:
        wrong.append(
            f"{Env.POLL_SECONDS} must be a number of seconds from {MIN_POLL_SECONDS:g} to "
            f"{MAX_POLL_SECONDS:g}, not {text!r}"
        )
    return seconds


def _checked(
    read: Callable[[str], str | None], name: Env, environ: Mapping[str, str], wrong: list[str]
) -> str | None:
    try:
        return read(environ.get(name, ""))
    except ValueError as error:
        wrong.append(f"{name} {error}")
        return None


def _log_level(text: str, wrong: list[str]) -> str:
    level = (text or "INFO").upper()
    if level not in LOG_LEVELS:
        wrong.append(f"{Env.LOG_LEVEL} must be one of {', '.join(LOG_LEVELS)}, not {text!r}")
    return level
