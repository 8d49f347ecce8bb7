"""How a stack of rendered manifests goes: emptied first, workers before their broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from demo import rendered
from demo.cluster import Cluster
from demo.commands import DemoError
from demo.rendered import TasksLeft
from scaler import contract
from scaler.commands import drain


@dataclass(slots=True)
class FakeCluster:
    """Notes what kubectl is asked; `refusal` is what the scaler's command fails with."""

    refusal: str = ""
    there: bool = True
    replicas: int = 2
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def kubectl(self, *arguments: str, timeout_seconds: float = 60) -> str:
        assert timeout_seconds
        self.asked.append(arguments)
        if arguments[0] == "exec" and self.refusal:
            raise DemoError(self.refusal)
        return "namespace/shop" if self.there else ""

    def get(self, *arguments: str) -> Any:
        self.asked.append(("get", *arguments))
        return {"items": [{"metadata": {"name": "sample-app"}, "spec": {"replicas": self.replicas}}]}


HERE = "--namespace=shop"
EXEC = (
    *("exec", HERE, f"deployment/{contract.SCALER_NAME}", "--"),
    *("python3", "-m", "scaler", "drain", "--timeout=600"),
)


def scale(replicas: int) -> tuple[str, ...]:
    return ("scale", "deployment", "sample-app", HERE, f"--replicas={replicas}")


def test_producers_stop_before_the_scaler_is_asked_to_wait() -> None:
    cluster = FakeCluster()

    rendered.drain(cast(Cluster, cluster), "shop")

    assert cluster.asked[-2:] == [scale(0), EXEC]


@pytest.mark.parametrize(("replicas", "restored"), [(2, 2), (0, 1)])
def test_tasks_that_are_left_keep_everything_as_it_was(replicas: int, restored: int) -> None:
    """Also where a drain that was interrupted has left the producer at 0."""
    refusal = f"failed (1):\n{rendered.NOT_EMPTY}; deleting it now ..."
    cluster = FakeCluster(refusal=refusal, replicas=replicas)

    with pytest.raises(TasksLeft, match="not known to be empty"):
        rendered.drain(cast(Cluster, cluster), "shop")

    assert cluster.asked[-3:] == [scale(0), EXEC, scale(restored)]


def test_a_scaler_that_cannot_be_asked_is_another_failure() -> None:
    with pytest.raises(DemoError) as raised:
        rendered.drain(cast(Cluster, FakeCluster(refusal="no pod")), "shop")

    assert not isinstance(raised.value, TasksLeft)


def test_there_is_nothing_to_wait_for_without_a_namespace() -> None:
    cluster = FakeCluster(there=False)

    rendered.drain(cast(Cluster, cluster), "shop")

    assert len(cluster.asked) == 1


def test_workers_are_gone_before_the_namespace_and_its_broker_go() -> None:
    cluster = FakeCluster()

    rendered.remove(cast(Cluster, cluster), "shop")

    workers, namespace = cluster.asked
    assert workers[:2] == ("delete", "deployment")
    assert {"--cascade=foreground", f"--selector={rendered.WORKERS}"} <= set(workers)
    assert namespace[:3] == ("delete", "namespace", "shop")


def test_the_words_and_labels_are_those_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """It knows the program by its output only."""
    drain._failed(["why"])  # noqa: SLF001
    parts = {
        manifest["metadata"]["name"]: manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        for manifest in rendered.render("local", {"beat": "true"})
        if manifest["kind"] == "Deployment"
    }

    assert capsys.readouterr().err.startswith(rendered.NOT_EMPTY)
    assert f"app.kubernetes.io/component={parts['default-celery-worker']}" == rendered.WORKERS
    producers = ",".join(sorted({parts["celery-beat"], parts["sample-app"]}))
    assert f"app.kubernetes.io/component in ({producers})" == rendered.PRODUCERS
    assert sum(part in ("worker", "beat", "sample") for part in parts.values()) == 3
