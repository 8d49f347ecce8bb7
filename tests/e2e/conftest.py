"""The session's cluster and images, a stack of its own for each test, and a diagnosis where one fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from demo import images
from demo.cluster import Cluster
from demo.diagnosis import diagnosis
from demo.images import Built
from tests.conftest import Kubectl
from tests.e2e.stack import Stack
from tests.e2e.stacks import Stacks

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
    servers = ("redis", "rabbitmq", "postgresql")
    return images.build_and_load(cluster, os.environ.get("DEMO_REGISTRY", ""), servers)


NewStack = Callable[..., Stack]


@pytest.fixture
def new_stack(cluster: Cluster, built: Built, request: pytest.FixtureRequest) -> Iterator[NewStack]:
    """`Stacks.make`; each is removed at the end, whatever becomes of the test."""
    seen = request.node.stash[NAMESPACES] = []
    stacks = Stacks(cluster, built, lambda stack: seen.append((cluster, stack.namespace)))
    yield stacks.make
    stacks.remove()


@pytest.fixture
def stack(new_stack: NewStack) -> Stack:
    return new_stack()
