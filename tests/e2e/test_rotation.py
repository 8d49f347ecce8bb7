"""A new password under load: servers know it beside the old one, workers roll by drain, nothing is lost.

What `pulumi up` does of it is done here in its order: the Secret is changed in place, the real provider waits
until the server has taken it up, then those who read it when they start are started anew.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.components import broker, result_backend
from infra.components.credentials import (
    BROKER_MARK,
    MARK,
    PASSWORD,
    RESULTS_MARK,
    SCALER_PASSWORD,
    password_mark,
)
from infra.manifests import configuration
from infra.rotation import RotationProvider
from infra.settings import load
from tests.conftest import FOUND
from tests.e2e.conftest import NewStack
from tests.e2e.course import followed
from tests.e2e.ledger import judge, published_in
from tests.e2e.scenes import BREATHING, MOST, Load, rest
from tests.e2e.stack import POOL, WORKERS, Stack
from tests.infra.provider_server import ProviderServer

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

OVERLAP_SECONDS = 180
SCALER_SECONDS = 120
LOAD = Load(high=16, shortest=0.1, longest=10)
ROLLING = {
    **BREATHING,
    "flower": "true",
    "gracePeriodSeconds": 60,
    "passwordOverlapSeconds": OVERLAP_SECONDS,
}
BACKENDS = {
    "redis": {"broker": "redis", "resultBackend": "redis"},
    "rabbitmq": {"broker": "rabbitmq", "resultBackend": "postgresql"},
}


@pytest.mark.parametrize("server", BACKENDS)
def test_a_new_password_loses_no_task_and_the_old_one_ends(
    new_stack: NewStack, server: str, record_property: Callable[[str, object], None]
) -> None:
    """The scaler and the servers are the same pods afterwards; no password shows anywhere."""
    stack = new_stack(**{**ROLLING, **BACKENDS[server]})
    scaler, servers = stack.scaler_pods(), pods_of(stack, BACKENDS[server].values())
    old, everything = opens_broker(stack), passwords_of(stack)
    with followed(stack.cluster, stack.namespace, POOL) as course:
        LOAD.order(stack, LOAD.high, "old")
        stack.wait(lambda: len(course.now.living) == MOST, "four workers", 60)

        new = rotate(stack, server)
        stack.outside.restart(stack.settings["image"])
        LOAD.order(stack, LOAD.high, "new")
        stack.wait(lambda: not opens(stack, server, old), "the old password is refused", OVERLAP_SECONDS + 90)
        cut_off(stack, server, new)
        took = stack.wait(
            lambda: stack.condition("Ready") == ("True", "Watching"), "the scaler reads", SCALER_SECONDS
        )
        stack.unmoved(lambda: stack.condition("Ready"), 10)
        LOAD.order(stack, 0, "new")
        rest(stack, course)

    assert opens(stack, server, new)
    assert stack.scaler_pods() == scaler
    assert pods_of(stack, BACKENDS[server].values()) == servers
    entries = stack.ledger()
    verdict = judge(published_in(entries), entries)
    found = f"rotation of {server} under load: {verdict}; the scaler read again after {took:.0f} s"
    record_property(FOUND, found)
    assert verdict.clean, verdict
    shows_nowhere(stack, everything | passwords_of(stack))


def texts_of(secret: Mapping[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(text).decode() for key, text in secret.get("data", {}).items()}


def opens_broker(stack: Stack) -> dict[str, str]:
    """The password of the broker's clients, by user."""
    texts = texts_of(stack.get("secret", broker.SECRET))
    return {texts.get("username", "default"): texts["password"]}


def passwords_of(stack: Stack) -> set[str]:
    """All of the stack's Secrets."""
    keys = (PASSWORD, SCALER_PASSWORD)
    found = [texts_of(secret) for secret in stack.get("secrets")["items"]]
    return {texts[key] for texts in found for key in keys if key in texts}


def rotate(stack: Stack, server: str) -> dict[str, str]:
    """As the engine does. The new passwords of the broker, by user."""
    declared = load(configuration("local", stack.settings))
    password, scalers, results = (secrets.token_urlsafe(24) for _ in range(3))
    mark = password_mark(password, salt=stack.namespace)
    marks = {BROKER_MARK: mark}
    waits = [(server, mark)]
    change(stack, broker.SECRET, {**broker.opened(declared, password, scalers), MARK: mark})
    if not result_backend.is_the_broker(declared):
        of_results = password_mark(results, salt=stack.namespace)
        marks[RESULTS_MARK] = of_results
        waits.append((declared.result_backend, of_results))
        change(stack, result_backend.SECRET, {**result_backend.opened(declared, results), MARK: of_results})
    for name, wanted in waits:
        wait_until_in_force(stack, name, wanted)
    readers = [WORKERS, "flower", *(["result-cleaner"] if RESULTS_MARK in marks else [])]
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": marks}}}})
    for name in readers:
        stack.kubectl("patch", "deployment", name, "--type=merge", f"--patch={patch}")
    for name in readers:
        stack.kubectl("rollout", "status", f"deployment/{name}", "--timeout=400s", seconds=410)
    return opens_broker(stack)


def change(stack: Stack, name: str, texts: Mapping[str, str]) -> None:
    stack.kubectl("patch", "secret", name, f"--patch={json.dumps({'stringData': dict(texts)})}")


def wait_until_in_force(stack: Stack, server: str, mark: str) -> None:
    here = {"namespace": stack.namespace, "context": stack.cluster.context, "server": server}
    declared = {**here, "kubeconfig_path": str(stack.cluster.kubeconfig), "mark": "the one before"}
    with ProviderServer(RotationProvider()) as provider:
        provider.update(provider.up(declared), {**declared, "mark": mark})


def opens(stack: Stack, server: str, passwords: Mapping[str, str]) -> bool:
    """Asked in the server's pod, by the users that it knows."""
    ask = {
        "redis": "REDISCLI_AUTH=$1 redis-cli --user $0 --no-auth-warning ping | grep -q PONG",
        "rabbitmq": 'rabbitmqctl --quiet authenticate_user "$0" "$1" >/dev/null 2>&1',
    }[server]
    found = []
    for user, password in passwords.items():
        words = ("exec", f"deployment/{server}", "--", "sh", "-c", f"{ask} && echo yes || echo no")
        found.append(stack.kubectl(*words, user, password).split()[-1] == "yes")
    return any(found)


def cut_off(stack: Stack, server: str, passwords: Mapping[str, str]) -> None:
    """Every connection, so that who has not changed over cannot work any more; RabbitMQ does so itself when
    a user goes."""
    if server == "redis":
        (password,) = passwords.values()
        kinds = "for kind in normal pubsub; do redis-cli --no-auth-warning client kill type $kind; done"
        stack.kubectl(
            "exec", "deployment/redis", "--", "sh", "-c", f"export REDISCLI_AUTH=$0; {kinds}", password
        )


def pods_of(stack: Stack, servers: Iterable[str]) -> dict[str, str]:
    names = ",".join(sorted(set(servers)))
    pods = stack.get("pods", f"--selector=app.kubernetes.io/name in ({names})")["items"]
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def shows_nowhere(stack: Stack, passwords: Iterable[str]) -> None:
    """But in Secrets: not in objects, their descriptions, events, logs, or any process's arguments."""
    kinds = "all,celery,configmaps,events,networkpolicies,persistentvolumeclaims"
    shown = {
        "objects": stack.kubectl("get", kinds, "--output=yaml"),
        "descriptions": stack.kubectl("describe", "all,celery,configmaps", seconds=120),
        # Devcluster's node is this machine.
        "arguments": "\n".join(text.replace(b"\0", b" ").decode(errors="replace") for text in arguments()),
    }
    for pod in stack.get("pods")["items"]:
        name = pod["metadata"]["name"]
        shown[f"log of {name}"] = stack.kubectl("logs", name, "--all-containers", "--tail=-1")
    for password in passwords:
        assert not [place for place, text in shown.items() if password in text]


def arguments() -> Iterable[bytes]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes()
        except OSError:
            continue  # it has ended
