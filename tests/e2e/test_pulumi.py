"""The same stack through the real `pulumi`: up, again, after scaling, with new limits, beside another, away.

One test per promise would deploy a stack for each; this is one stack's life in order, with the promise
at each step.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from demo import rendered
from demo.cluster import Cluster
from demo.engine import Engine, counts_in, program_found
from demo.images import Built
from demo.rendered import Manifest
from tests.e2e.conftest import NAMESPACES
from tests.e2e.stack import APART, LEAST, POOL, WORKERS, Stack, left_of

pytestmark = [pytest.mark.cluster, pytest.mark.pulumi]

DEFINITION_ONLY = {
    "customresourcedefinition.apiextensions.k8s.io/celery.celeryproject.org",
    "apiservice.apiregistration.k8s.io/v1alpha1.celeryproject.org",
}
SMALL = {
    "resources.requests.cpu": "20m",
    "resources.requests.memory": "64Mi",
    "resources.limits.cpu": "900m",  # the provider would write 1000m as 1
    "resources.limits.memory": "256Mi",
}

NewEngine = Callable[[str], tuple[Engine, Stack, dict[str, str]]]


@pytest.fixture
def new_engine(
    cluster: Cluster, built: Built, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[NewEngine]:
    """Stacks of the engine, destroyed at the end if the test has not done so."""
    program = program_found()
    if program is None:
        pytest.skip("there is no pulumi CLI: nothing of the engine was tested")
    made: list[Engine] = []
    request.node.stash[NAMESPACES] = []

    def make(name: str) -> tuple[Engine, Stack, dict[str, str]]:
        engine = Engine(program=program, folder=tmp_path / name, stack=name)
        made.append(engine)
        namespace = f"e2e-{name}-{uuid.uuid4().hex[:6]}"
        request.node.stash[NAMESPACES].append((cluster, namespace))
        settings = {
            **APART,
            **SMALL,
            "namespace": namespace,
            **built.settings,
            **cluster.settings,
            "onDestroy": "discard",
        }
        return engine, Stack(cluster, namespace, settings), settings

    yield make
    for engine in made:
        engine.destroy()


def test_a_stack_lives_beside_another_and_leaves_only_the_definition(new_engine: NewEngine) -> None:
    """No change is no change, also after scaling; new limits restart nothing; two stacks part in peace."""
    engine, stack, settings = new_engine("local")

    resources = int(engine.up(settings).removesuffix(" created"))
    assert stack.condition("Ready") == ("True", "Watching")
    assert differing(applied(engine), expected(settings)) == {}

    assert acted(engine, "up") == f"{resources} unchanged"

    stack.kubectl("scale", f"deployment/{WORKERS}", f"--replicas={LEAST + 1}")
    assert acted(engine, "up") == f"{resources} unchanged"
    assert acted(engine, "refresh") == f"{resources} unchanged"

    stack.wait(lambda: stack.settled(LEAST), f"{LEAST} workers again", 120)
    # Else the engine remembers the other size, and lists the Deployment as updated, to what it has already.
    assert acted(engine, "refresh") == f"{resources} unchanged"
    pods = {**stack.worker_pods(), **stack.scaler_pods()}
    engine.set("maxReplicas", "3")
    assert acted(engine, "up") == f"2 updated, {resources - 2} unchanged"
    assert stack.get("celery", POOL)["spec"]["scaleTargetRef"][0]["maxReplicas"] == 3
    assert {**stack.worker_pods(), **stack.scaler_pods()} == pods

    other, neighbour, its_settings = new_engine("second")
    other.up(its_settings)
    assert acted(engine, "up") == f"{resources} unchanged"
    engine.destroy()
    assert neighbour.condition("Ready") == ("True", "Watching")
    assert acted(other, "up") == f"{resources} unchanged"
    other.destroy()
    assert left_of(stack, neighbour) == DEFINITION_ONLY


def acted(engine: Engine, operation: str) -> str:
    """The counts; all that was said is shown where the test fails."""
    print(shown := engine.show(operation, "--yes", "--diff"))
    return counts_in(shown)


def exported(engine: Engine) -> list[dict[str, Any]]:
    """Every resource in the stack's state."""
    state = json.loads(engine.run("stack", "export", "--stack", engine.stack))
    return list(state["deployment"]["resources"])


def applied(engine: Engine) -> dict[tuple[str, str], Manifest]:
    """What the engine sent to the API server, by kind and name, without what it does not render."""
    objects = [
        resource["inputs"] for resource in exported(engine) if resource["type"].startswith("kubernetes:")
    ]
    return {key_of(one): plain(one) for one in objects if one["kind"] != "Secret"}


def expected(settings: Mapping[str, str]) -> dict[tuple[str, str], Manifest]:
    structures: dict[str, Any] = {}
    for key, value in settings.items():
        if "." in key:
            first, second, third = key.split(".")
            structures.setdefault(first, {}).setdefault(second, {})[third] = value
    flat = {key: value for key, value in settings.items() if "." not in key}
    texts = {key: json.dumps(value) for key, value in structures.items()}
    return {key_of(one): plain(one) for one in rendered.render("local", {**flat, **texts})}


def differing(
    left: Mapping[tuple[str, str], Manifest], right: Mapping[tuple[str, str], Manifest]
) -> dict[tuple[str, str], tuple[Manifest | None, Manifest | None]]:
    """Object by object, so that a difference is not lost among a thousand equal lines."""
    keys = left.keys() | right.keys()
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def key_of(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def plain(manifest: Manifest) -> Manifest:
    """Without the engine's own annotations, the mark of a password that only it knows, and replicas."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {
                key: cleaned(item)
                for key, item in value.items()
                if not key.startswith(("pulumi.com/", "__")) and not key.endswith("/broker-password-mark")
            }
            return {key: item for key, item in kept.items() if not (key == "annotations" and item == {})}
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        return value

    without = cleaned(manifest)
    if without["kind"] == "Deployment" and without["metadata"]["name"] == WORKERS:
        without["spec"].pop("replicas", None)
    return dict(without)
