"""Every URL that a Secret may hold, as kombu reads it, and never its password."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from scaler.broker.url import (
    AmqpUrl,
    BrokerUrl,
    ManagementUrl,
    RedisUrl,
    SentinelUrl,
    Tls,
    UrlFile,
    UrlUnusable,
    broker_url,
    management_url,
)
from scaler.contract import Ready

CA = Path("/etc/broker/ca.crt")
LOGIN: dict[str, Any] = {"username": "u", "password": "p:w/d"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param("redis://h", RedisUrl(host="h", port=6379), id="the shortest for Redis"),
        pytest.param(
            " redis://u:p%3Aw%2Fd@h:1/2\n",
            RedisUrl(host="h", port=1, database=2, **LOGIN),
            id="a user, an escaped password, a port and a database",
        ),
        pytest.param(
            "rediss://h", RedisUrl(host="h", port=6379, tls=Tls(ca_file=str(CA))), id="TLS by the CA file"
        ),
        pytest.param(
            "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/own.crt&ssl_certfile=/me.crt&ssl_keyfile=/me.key",
            RedisUrl(
                host="h",
                port=6379,
                tls=Tls(
                    ca_file="/own.crt",
                    certificate="/me.crt",
                    key="/me.key",
                    verify="none",
                    check_hostname=False,
                ),
            ),
            id="TLS by the URL's own words",
        ),
        pytest.param(
            "sentinel://:p%3Aw%2Fd@a:1/3;sentinel://b",
            SentinelUrl(sentinels=(("a", 1), ("b", 26379)), database=3, password="p:w/d"),
            id="Sentinels, the first with what Redis wants",
        ),
        pytest.param(
            "sentinel://a?ssl_cert_reqs=required",
            SentinelUrl(sentinels=(("a", 26379),), tls=Tls(ca_file=str(CA))),
            id="Sentinels before Redis with TLS",
        ),
        pytest.param(
            "amqp://h",
            AmqpUrl(host="h", port=5672, username="guest", password="guest"),
            id="the shortest for RabbitMQ",
        ),
        pytest.param(
            "amqp://u:p%3Aw%2Fd@h:1/celery",
            AmqpUrl(host="h", port=1, vhost="celery", **LOGIN),
            id="a vhost",
        ),
        pytest.param(
            "pyamqp://u:p%3Aw%2Fd@h//", AmqpUrl(host="h", port=5672, **LOGIN), id="the vhost / as a path"
        ),
        pytest.param(
            "amqps://u:p%3Aw%2Fd@h/a%2Fb?ca_certs=/own.crt",
            AmqpUrl(host="h", port=5671, vhost="a/b", tls=Tls(ca_file="/own.crt"), **LOGIN),
            id="TLS, in py-amqp's words, and a vhost with a slash",
        ),
    ],
)
def test_url_is_read_as_kombu_reads_it(text: str, meant: BrokerUrl) -> None:
    assert broker_url(text, CA) == meant


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("kafka://u:marker@h", "not kafka", id="another broker"),
        pytest.param("marker", "not what was given", id="no URL"),
        pytest.param("", "not what was given", id="an empty file"),
        pytest.param("amqp://u:marker@h:port/", "amqp://user:password@host:port/vhost", id="no port"),
        pytest.param("redis://:marker@h/zero", "redis://user:password@host", id="no database"),
        pytest.param("amqp://u:marker@a;amqp://u:marker@b", "the form amqp://", id="kombu's list of brokers"),
        pytest.param("sentinel://:marker@a;redis://b", "sentinel://host:port", id="a mixed list"),
        pytest.param("rediss://:marker@h?ssl_cert_reqs=some", "the form rediss://", id="a word that is none"),
    ],
)
def test_url_of_no_use_is_said_without_repeating_it(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        broker_url(text)
    assert "marker" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param(
            "http://u:p%3Aw%2Fd@h:15672/celery",
            ManagementUrl(host="h", port=15672, vhost="celery", **LOGIN),
            id="a vhost",
        ),
        pytest.param("http://h", ManagementUrl(host="h", port=15672), id="the broker's own vhost"),
        pytest.param("http://h/%2F", ManagementUrl(host="h", port=15672, vhost="/"), id="the vhost /"),
        pytest.param(
            "https://h:1/", ManagementUrl(host="h", port=1, tls=Tls(ca_file=str(CA))), id="TLS by the CA file"
        ),
    ],
)
def test_management_url_names_a_vhost(text: str, meant: ManagementUrl) -> None:
    assert management_url(text, CA) == meant


@pytest.mark.parametrize("text", ["", "amqp://u:marker@h", "http://u:marker@h:port", "http://"])
def test_management_url_of_no_use_is_said_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="http://user:password@host:port/vhost") as caught:
        management_url(text)
    assert "marker" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["redis://u:marker@h", "sentinel://:marker@h", "amqp://u:marker@h/v", "amqps://u:marker@h/v"],
)
def test_no_text_of_a_url_has_its_password(text: str) -> None:
    """Neither in a log line, nor in a traceback's locals, nor in what a server repeated."""
    url = broker_url(text)

    assert "marker" not in f"{url} {url!r} {url.without_password('WRONGPASS marker')}"


def test_missing_files_are_told_apart(tmp_path: Path) -> None:
    """A broker must have a URL; that there is no management API is a way to be."""
    file = UrlFile(tmp_path / "none")

    assert file.management() is None
    with pytest.raises(UrlUnusable, match="cannot be read: No such file") as caught:
        file.broker()
    assert caught.value.reason is Ready.BROKER_UNREACHABLE


def test_tls_is_said_in_each_clients_words() -> None:
    required, none = Tls(), Tls(verify="none", check_hostname=False)

    assert required.redis_options()["ssl_cert_reqs"] == "required"
    assert required.amqp_options("h") | {"ca_certs": None} == {
        "ca_certs": None,
        "certfile": None,
        "keyfile": None,
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "h",
    }
    assert none.amqp_options("h")["server_hostname"] is None
    assert (none.context().verify_mode, none.context().check_hostname) == (ssl.CERT_NONE, False)
