"""The session's cluster and images, a stack of its own for each test, and a diagnosis where one fails."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from demo import images
from demo.cluster import Cluster
from demo.diagnosis import diagnosis
from demo.images import Built
from tests.conftest import Kubectl
from tests.e2e.stack import Stack, ledger_claim, settings_of

NAMESPACES = pytest.StashKey[list[tuple[Cluster, str]]]()
"""What a test has deployed to: where to look when it fails."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when != "teardown":
        # Now: by the report's end the stacks are gone.
        for cluster, namespace in item.stash.get(NAMESPACES, []):
            report.sections.append((f"diagnosis of {namespace}", diagnosis(cluster, namespace)))
    return report


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path, kubectl: Kubectl) -> Cluster:
    named = os.environ.get("DEMO_CONTEXT")
    context = named or kubectl("config", "current-context").strip()
    return Cluster(maker="you" if named else "devcluster", kubeconfig=kubeconfig, context=context)


@pytest.fixture(scope="session")
def built(cluster: Cluster) -> Built:
    return images.build_and_load(cluster, os.environ.get("DEMO_REGISTRY", ""))


NewStack = Callable[[], Stack]


@pytest.fixture
def new_stack(cluster: Cluster, built: Built, request: pytest.FixtureRequest) -> Iterator[NewStack]:
    """Makes stacks that are ready; each is removed at the end, whatever becomes of the test."""
    made: list[Stack] = []
    request.node.stash[NAMESPACES] = []

    def make() -> Stack:
        namespace = f"e2e-{uuid.uuid4().hex[:8]}"
        stack = Stack(cluster, namespace, settings_of(namespace, built))
        made.append(stack)
        request.node.stash[NAMESPACES].append((cluster, namespace))
        cluster.kubectl("create", "namespace", namespace)
        stack.kubectl("create", "--filename=-", stdin=ledger_claim())
        stack.apply()
        stack.wait_ready()
        return stack

    yield make
    for stack in made:
        stack.remove()


@pytest.fixture
def stack(new_stack: NewStack) -> Stack:
    return new_stack()
