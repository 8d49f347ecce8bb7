"""What a process needs that sends or runs the stack's tasks: broker and result backend as one.

It owns how both reach a pod: environment, annotations, files, Celery's configuration. Workers, Flower and the
sample app take it; the scaler, which knows the broker alone and by a user of its own, does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.components import external
from infra.components.broker import Broker
from infra.components.pod_baseline import Manifest
from infra.components.result_backend import ResultBackend
from infra.settings import Settings
from infra.settings.backends import REDIS
from infra.settings.delivery import transport_options
from scaler.contract import Env


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    settings: Settings
    broker: Broker
    results: ResultBackend

    @property
    def environment(self) -> list[Manifest]:
        return [*self.broker.environment, *self.results.environment]

    @property
    def annotations(self) -> Mapping[str, pulumi.Output[str]]:
        return {**self.broker.pod_annotations, **self.results.pod_annotations}

    @property
    def mounts(self) -> Mapping[str, Manifest]:
        return external.mounts(self.settings)

    @property
    def configuration(self) -> list[str]:
        """For what follows `--` on a worker's command line."""
        expire = self.settings.result_expire_seconds
        return [*self.broker.worker_configuration, *([f"result.expires={expire}"] if expire else [])]

    @property
    def of_own_images(self) -> list[Manifest]:
        """Of pods whose image is this project's, which have no command line for it."""
        return self.broker.own_environment

    @property
    def of_flower(self) -> list[Manifest]:
        """Flower's image knows no databases, and its page needs no results: it shows what workers tell."""
        redis = self.settings.result_backend == REDIS
        options = json.dumps(transport_options(self.settings), sort_keys=True)
        return [
            *self.broker.environment,
            *(self.results.environment if redis else []),
            *self.of_own_images,
            {"name": Env.BROKER_TRANSPORT_OPTIONS.value, "value": options},
        ]
