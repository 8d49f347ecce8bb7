"""The settings that shape a pool's pods beyond Celery: where they run, what they mount, what runs first.

All of them are in Kubernetes' own shapes and may differ from pool to pool. Data, with no behaviour: their
shapes are checked in `infra.settings.pod_shapes`, and `infra.components.workers` puts them into the pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.settings.schema import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What `infra.settings.pool.Pool` inherits."""

    volumes: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        "Volumes of the worker pods, in the shape of a pod's `volumes`: the kinds that Pod Security "
        "`restricted` admits. A claim must be one that several pods may mount.",
        items="object",
    )
    volume_mounts: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        "Where the workers mount them, in the shape of a container's `volumeMounts`. The root file system "
        "is read-only, and /tmp is the stack's own scratch folder of 256 MiB.",
        items="object",
    )
    init_containers: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        "Containers that run before a worker starts, in the shape of a pod's `initContainers`. Where they do "
        "not say otherwise they get a worker's limits, the same restricted security and a /tmp of their "
        "pod; nothing of its environment.",
        items="object",
    )
    node_selector: Mapping[str, str] = setting(
        "object", {}, "Labels that a node must have to run the pool's pods."
    )
    tolerations: tuple[Mapping[str, Any], ...] = setting(
        "array", (), "Taints that the pool's pods tolerate, in the shape of a pod's.", items="object"
    )
    affinity: Mapping[str, Any] = setting(
        "object", {}, "Nodes and pods that the pool's pods prefer or avoid, in the shape of a pod's."
    )
    topology_spread_constraints: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        "How the pool's pods spread over zones or nodes, in the shape of a pod's. One without a "
        "`labelSelector`, which would count nothing, counts the pool's pods.",
        items="object",
    )
    priority_class_name: str = setting(
        "string", "", "PriorityClass of the pool's pods; it must exist. Empty means the cluster's default."
    )
    pod_annotations: Mapping[str, str] = setting("object", {}, "Further annotations of the pool's pods.")
    pod_labels: Mapping[str, str] = setting(
        "object", {}, "Further labels of the pool's pods. Those that the stack sets cannot be set here."
    )
    accept_content: tuple[str, ...] = setting(
        "array",
        ("json",),
        "Content types that the workers take (`accept_content`), in place of the app's own. A message of "
        "any other is refused: logged as an error by the worker that got it, and gone. Empty leaves the "
        "app's choice. `pickle` runs whatever a message says.",
    )
