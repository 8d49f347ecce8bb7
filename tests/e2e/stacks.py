"""Owns the making of stacks that are ready, and that all of them go."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

from demo.cluster import Cluster
from demo.images import Built
from tests.e2e import outside
from tests.e2e.stack import Change, Stack, settings_of, with_ledger


class Stacks:
    """Makes stacks that are ready, also side by side, and removes them all."""

    def __init__(
        self, cluster: Cluster, built: Built, made: Callable[[Stack], None] = lambda _: None
    ) -> None:
        self._cluster = cluster
        self._built = built
        self._made = made
        self._stacks: list[Stack] = []

    def make(
        self,
        change: Change = with_ledger,
        /,
        *,
        deploy: Callable[[Stack], None] = Stack.apply,
        **settings: object,
    ) -> Stack:
        """With these settings over those of all tests."""
        namespace = f"e2e-{uuid.uuid4().hex[:8]}"
        stack = Stack(self._cluster, namespace, settings_of(namespace, self._built), change=change)
        self._stacks.append(stack)
        self._made(stack)
        self._cluster.kubectl("create", "namespace", namespace)
        stack.kubectl("create", "--filename=-", stdin=json.dumps(outside.claim()))
        stack.settings |= {key: str(value) for key, value in settings.items()}
        deploy(stack)
        stack.outside.start(stack.settings["image"])
        stack.wait_ready()
        return stack

    def remove(self) -> None:
        while self._stacks:
            self._stacks.pop().remove()
