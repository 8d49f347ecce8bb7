"""The environment, read as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler.broker.redis_layout import Layout
from scaler.broker.url import UrlFile
from scaler.contract import Env
from scaler.settings import Settings, WrongEnvironment, load
from scaler.web.links import Links

NEEDED: dict[str, str] = {
    Env.NAMESPACE: "shop",
    Env.POD_NAME: "scaler-0",
    Env.BROKER_URL_FILE: "/etc/broker/url",
}


def test_needed_variables_are_enough() -> None:
    """Everything else has a default."""
    assert load(NEEDED) == Settings(
        namespace="shop",
        pod_name="scaler-0",
        broker_url_file=UrlFile(Path("/etc/broker/url")),
        layout=Layout(),
        poll_seconds=2.0,
        log_level="INFO",
    )


def test_given_variables_are_taken() -> None:
    """Options, poll and level come from the environment."""
    settings = load(
        {
            **NEEDED,
            Env.BROKER_TRANSPORT_OPTIONS: '{"global_keyprefix": "shop-", "visibility_timeout": 60}',
            Env.POLL_SECONDS: "0.5",
            Env.LOG_LEVEL: "debug",
            Env.CONTROL_EXCHANGE: "shop",
            Env.EVENT_EXCHANGE: "shopev",
            Env.HANDSHAKE: "off",
            Env.PAGE_PREFIX: "fleet/",
            Env.STACK: "dev",
            Env.STACK_URL: "https://stacks.example/dev",
            Env.FLOWER_URL: "https://flower.example/",
        }
    )

    assert (settings.layout.key_prefix, settings.poll_seconds, settings.log_level) == ("shop-", 0.5, "DEBUG")
    assert (settings.control_exchange, settings.event_exchange) == ("shop", "shopev")
    assert settings.transport_options["visibility_timeout"] == 60
    assert not settings.handshake
    assert settings.links == Links(
        prefix="/fleet",
        stack_name="dev",
        stack="https://stacks.example/dev",
        flower="https://flower.example/",
    )


def test_every_wrong_variable_is_in_one_message() -> None:
    """Whoever mends the environment sees all of it at once."""
    with pytest.raises(WrongEnvironment) as caught:
        load(
            {
                Env.BROKER_TRANSPORT_OPTIONS: '{"sep": 1, "priority_steps": 2}',
                Env.POLL_SECONDS: "soon",
                Env.LOG_LEVEL: "LOUD",
                Env.PAGE_PREFIX: "a b",
                Env.STACK_URL: "dev",
                Env.GRAFANA_URL: "https://me:secret@grafana.example/",
            }
        )

    assert [line.partition(":")[0].partition(" ")[0] for line in str(caught.value).splitlines()] == [
        Env.NAMESPACE,
        Env.POD_NAME,
        Env.BROKER_URL_FILE,
        Env.BROKER_TRANSPORT_OPTIONS,
        Env.BROKER_TRANSPORT_OPTIONS,
        Env.POLL_SECONDS,
        Env.PAGE_PREFIX,
        Env.STACK_URL,
        Env.GRAFANA_URL,
        Env.LOG_LEVEL,
    ]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (Env.HANDSHAKE, "no"),
        (Env.POLL_SECONDS, "0"),
        (Env.POLL_SECONDS, "-2"),
        (Env.POLL_SECONDS, "nan"),
        (Env.POLL_SECONDS, "inf"),
        (Env.POLL_SECONDS, "61"),
        (Env.BROKER_TRANSPORT_OPTIONS, "[]"),
        (Env.BROKER_TRANSPORT_OPTIONS, "{"),
    ],
)
def test_values_out_of_range_are_refused(name: Env, text: str) -> None:
    """A poll of no time would ask without a pause; options that are no object name nothing."""
    with pytest.raises(WrongEnvironment, match=name):
        load({**NEEDED, name: text})
