"""A Celery project of its own shape, from its Dockerfile to scaling by the commands of its page alone.

By rendered manifests, and by `pulumi config set` and `pulumi up` where the CLI is on PATH. Its namespace
enforces the restricted Pod Security Standard, so every kind of pod that is seen running was admitted.
"""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from demo import rendered
from demo.cluster import Cluster
from demo.engine import Engine, program_found
from demo.environment import ROOT
from demo.images import Built
from infra.settings.names import object_name
from tests.devcluster import images as store
from tests.e2e.conftest import NAMESPACES
from tests.e2e.stack import SMALL, Stack, settings_of
from tests.e2e.ways import configure

pytestmark = pytest.mark.cluster

PAGE: Final = ROOT / "docs" / "bring-your-own-app.md"
IMAGE: Final = "registry.example.com/team/shop:1"
"""The page's; here the image is built and loaded into the node under a name of its own."""
REPORTS: Final = object_name("reports_eu")
POOLS: Final = ("mail", "orders", REPORTS)
STARTED_SECONDS: Final = 180
LEAST, MOST = 1, 3


def commands() -> Iterator[tuple[str, str]]:
    """Path and value of each `pulumi config set` of the page."""
    text = PAGE.read_text().partition("<!-- commands:begin -->")[2].partition("<!-- commands:end -->")[0]
    for line in re.findall(r"^\$ pulumi config set (.*)$", text, re.MULTILINE):
        path, value = (word for word in shlex.split(line) if not word.startswith("--"))
        yield path, value


def nested(paths: dict[str, str]) -> dict[str, Any]:
    """What `pulumi config set --path` makes of them: whole numbers, lists by their indices."""
    found: dict[str, Any] = {}
    for path, text in paths.items():
        at: Any = found
        steps: list[str | int] = [
            int(index) if index else word for word, index in re.findall(r"([\w-]+)|\[(\d+)\]", path)
        ]
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            empty: Any = [] if isinstance(following, int) else {}
            leaf: Any = (int(text) if text.isdigit() else text) if following is None else empty
            if isinstance(step, int):
                at += [leaf] if step == len(at) else []
            else:
                at.setdefault(step, leaf)
            at = at[step]
    return found


@pytest.fixture(scope="session")
def shop(cluster: Cluster) -> str:
    """The name of the project's image, which every node has."""
    if cluster.maker != "devcluster":
        pytest.skip("the project's image is loaded into devcluster's node; this cluster would pull it")
    folder = ROOT / "examples" / "shop"
    name = "localhost/celery-fleet-example-shop:e2e"
    store.build(folder, name)
    cluster.load([name])
    return name


@pytest.fixture(params=["rendered", pytest.param("pulumi", marks=pytest.mark.pulumi)])
def own_app(
    request: pytest.FixtureRequest, cluster: Cluster, built: Built, shop: str, tmp_path: Path
) -> Iterator[Stack]:
    """The stack of the page, on what these tests' cluster has: its images, its size."""
    program = program_found()
    if request.param == "pulumi" and program is None:
        pytest.skip("there is no pulumi CLI: nothing of the engine was tested")
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    request.node.stash[NAMESPACES] = [(cluster, namespace)]
    base = settings_of(namespace, built) | {"sampleApp": "false", "minReplicas": str(LEAST)}
    base |= {"beatResources": SMALL}
    page = {path: value.replace(IMAGE, shop) for path, value in commands()}
    stack = Stack(cluster, namespace, base)
    if request.param == "rendered" or program is None:
        top = nested(page)
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in top.items()}
        rendered.apply(cluster, "local", base | texts)
        yield stack
        stack.remove()
        return
    engine = Engine(program=program, folder=tmp_path / "local", stack="local")
    _up(engine, cluster, base, page)
    yield stack
    engine.set("onDestroy", "discard")
    engine.destroy("--run-program")


def _up(engine: Engine, cluster: Cluster, base: dict[str, str], page: dict[str, str]) -> None:
    configure(engine, cluster, base)
    for path, value in page.items():
        engine.set(path, value)
    engine.act("up", "--yes", "--skip-preview")


def test_a_project_of_its_own_shape_scales_by_settings_alone(own_app: Stack) -> None:
    """Every pod is admitted, a task of each route runs, beat sends its own, one pool goes 1 -> 3 -> 1."""
    available = ("--for=condition=Available", "deployment", "--all", f"--timeout={STARTED_SECONDS}s")
    own_app.kubectl("wait", *available, seconds=STARTED_SECONDS + 10)
    ready = ("--for=condition=Ready", "celery", "--all", f"--timeout={STARTED_SECONDS}s")
    own_app.kubectl("wait", *ready, seconds=STARTED_SECONDS + 10)

    admitted(own_app)
    assert {item["metadata"]["name"] for item in own_app.get("celery")["items"]} == set(POOLS)
    assert in_pod(
        own_app,
        "from shop.tasks import *",
        "sent = [send_mail.delay('me'), take_order.delay(7), write_report.delay(0)]",
        "print([one.get(timeout=60) for one in sent])",
    ) == str(["mailed me", "order 7 by corner", "report"])
    own_app.wait(lambda: "mailed everybody" in log_of(own_app, "mail"), "a task of beat's", 60)

    in_pod(own_app, "from shop.tasks import *", "[write_report.delay(1.5) for _ in range(40)]")

    own_app.wait(lambda: ready_workers(own_app) == MOST, f"{MOST} workers", 60)
    own_app.wait(lambda: ready_workers(own_app) == LEAST, f"{LEAST} worker again", 180)
    assert own_app.get("deployment", "orders-celery-worker")["spec"]["replicas"] == LEAST


def admitted(stack: Stack) -> None:
    """Under the restricted standard, init containers and beat too, with the registry's secret."""
    namespace = stack.cluster.get("namespace", stack.namespace)
    pods = {pod["metadata"]["name"]: pod["spec"] for pod in stack.get("pods")["items"]}
    mail = [spec["imagePullSecrets"] for name, spec in pods.items() if name.startswith("mail-")]
    initial = [spec for spec in pods.values() if "initContainers" in spec]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert mail == [[{"name": "shop-registry"}]]
    assert len(initial) == 1
    assert any(name.startswith("celery-beat-") for name in pods)
    assert len(stack.get("networkpolicy")["items"]) == len(
        ("closed", "redis", "worker", "beat", "flower", "scaler")
    )


def in_pod(stack: Stack, *lines: str) -> str:
    """What a program prints that runs beside the app, as a producer of the same image would."""
    words = ("exec", "deployment/mail-celery-worker", "--", "python3", "-c", "\n".join(lines))
    return stack.kubectl(*words, seconds=120).strip()


def log_of(stack: Stack, pool: str) -> str:
    return stack.kubectl("logs", f"deployment/{pool}-celery-worker", "--tail=200")


def ready_workers(stack: Stack) -> int:
    status = stack.get("deployment", f"{REPORTS}-celery-worker")["status"]
    return int(status.get("readyReplicas", 0))
