"""Every setting of a pool: what `pools` may override by name. Data, with no behaviour.

Those about pods rather than Celery are in `infra.settings.placement`, and
the settings of the whole stack in `infra.settings.fields`, which also says what the descriptions are
for. How those about tasks and messages reach a worker is in `infra.components.workers`, what follows from
them in `infra.settings.delivery`, and which of them do not go together in `infra.settings.lint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from infra.settings.placement import Placement
from infra.settings.schema import container_resources, setting
from scaler import contract

DAY: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Placement):
    """A worker Deployment with the queues that it serves, and the `Celery` object that scales it."""

    name: str = "default"
    settings_path: str = field(default="", compare=False)
    """Where the stack's configuration has its settings, as `pools.mail`; "" where they are the flat keys."""
    image: str = setting(
        "string",
        "",
        "Image of the workers: your Celery app with Celery installed. It has no default.",
        too_low="there is nothing to run",
    )
    celery_app: str = setting(
        "string",
        "app",
        "Celery app inside the image, as `celery -A` takes it: `module` or `module:attribute`.",
        too_low="`celery -A` finds no app and every worker stops at its start",
    )
    queues: tuple[str, ...] = setting(
        "array",
        (contract.DEFAULT_QUEUE,),
        "Queues that the pool serves. The default is Celery's own default queue.",
        too_low="the workers consume from no queue and their demand is always 0",
    )
    min_replicas: int = setting(
        "integer",
        contract.DEFAULT_MIN_REPLICAS,
        "Worker pods that always run. One is ready at once when a task comes; 0 saves it and adds the "
        "seconds of a pod's start to the first task.",
        low=0,
        high=contract.MAX_REPLICAS,
        too_high="idle pods take the cluster's place",
    )
    max_replicas: int = setting(
        "integer",
        contract.DEFAULT_MAX_REPLICAS,
        "Worker pods that may run at most. Choose what the database behind the tasks can bear.",
        low=1,
        high=contract.MAX_REPLICAS,
        too_low="the queue grows faster than it is worked off",
        too_high="one flood fills the cluster and the connections of what the tasks call",
    )
    average_value: int = setting(
        "integer",
        contract.DEFAULT_AVERAGE_VALUE,
        "Messages that one worker pod is meant for: the pool has demand / averageValue pods, rounded up. "
        "100 suits tasks of some 10 ms to 100 ms; divide it for longer ones.",
        low=1,
        high=contract.MAX_AVERAGE_VALUE,
        too_low="a short burst starts more pods than it keeps busy",
        too_high="tasks wait although more pods were allowed",
    )
    concurrency: int = setting(
        "integer",
        contract.DEFAULT_CONCURRENCY,
        "Tasks that one worker pod runs at a time (`celery worker -c`). One process per pod keeps CPU and "
        "memory limits about one task.",
        low=1,
        high=contract.MAX_CONCURRENCY,
        too_low="a worker without a process runs nothing",
        too_high="the processes of one pod share its memory limit and are killed together",
    )
    grace_period_seconds: int = setting(
        "integer",
        300,
        "Seconds that a worker may take for its running tasks after it was told to stop: longer than the "
        "longest task. A worker that is done leaves at once, so a generous value costs nothing.",
        low=1,
        high=DAY,
        too_low="Kubernetes kills the worker in the middle of a task, and Redis redelivers it only after "
        "the visibility timeout, an hour later",
        too_high="a task that hangs keeps its pod, and `pulumi destroy`, that long",
    )
    longest_task_seconds: int = setting(
        "integer",
        0,
        "Seconds that the longest task runs, as you declare it: the preview holds the grace period, the "
        "visibility timeout and the prefetch against it. 0 declares nothing, and nothing is checked.",
        low=0,
        high=DAY,
        too_low="the preview finds nothing wrong with a stack that kills or repeats its longest tasks",
        too_high="the preview asks for longer waits than the tasks need",
    )
    eta_horizon_seconds: int = setting(
        "integer",
        0,
        "Seconds ahead of the furthest `countdown` or `eta` that tasks are sent with; 0 means none is. A "
        "worker takes such a message at once and keeps it, unacknowledged, until it is due.",
        low=0,
        high=365 * DAY,
        too_low="the preview finds nothing wrong with a visibility timeout that repeats delayed tasks",
        too_high="Redis redelivers the tasks of a killed worker that late",
    )
    acks_late: bool = setting(
        "boolean",
        False,
        "Acknowledges a message when its task has ended (`task_acks_late`): a worker's death repeats the "
        "task instead of losing it, so it must be one that may run twice. false leaves the app's choice. "
        "A task's own `acks_late` wins either way, and so does the app's for tasks that it looks up while "
        "it is imported.",
    )
    prefetch_multiplier: int = setting(
        "integer",
        0,
        "Messages that a worker holds for each of its processes (`--prefetch-multiplier`). 1 suits long "
        "tasks; 0 leaves the app's choice, Celery's own being 4.",
        low=0,
        high=1000,
        too_low="a worker waits for the broker between two short tasks",
        too_high="messages wait at a busy worker while others are idle",
    )
    disable_prefetch: bool = setting(
        "boolean",
        False,
        "Takes a message only when a process is free for it (`--disable-prefetch`, which needs Celery 5.6 or "
        "later): right for long tasks that are acknowledged early. false leaves the app's choice.",
    )
    soft_shutdown_timeout_seconds: int = setting(
        "integer",
        0,
        "Seconds after which a worker that was told to stop gives its running tasks back to the queue, with "
        "acksLate (`worker_soft_shutdown_timeout` with `REMAP_SIGTERM=SIGQUIT`, Celery 5.5 or later): for "
        "tasks longer than a node's notice. A worker that runs anything then takes all these seconds, even "
        "if it is done sooner. 0 finishes every task, for as long as the grace period lasts.",
        low=0,
        high=DAY,
        too_low="tasks that were nearly done are begun again",
        too_high="the grace period ends first",
    )
    drain_seconds: int = setting(
        "integer",
        0,
        "Seconds that a worker chosen to leave may take for the tasks that it holds. Then it is kept and "
        "works on: nothing is killed. 0 means the grace period, or, if that is more, longestTaskSeconds for "
        "each task that one of its processes may hold.",
        low=0,
        high=contract.MAX_DRAIN_SECONDS,
        too_low="busy workers stop consuming and begin again in vain, and the pool does not get smaller",
        too_high="a worker whose task hangs takes no other that long",
    )
    log_level: str = setting(
        "string",
        "info",
        "The least severe lines that workers log.",
        choices=("debug", "info", "warning", "error", "critical"),
    )
    extra_args: tuple[str, ...] = setting(
        "array",
        (),
        "Further options of `celery worker`, each option and each value an entry of its own. Those that a "
        "setting stands for are refused, such as `-Q` and `-c`.",
    )
    max_tasks_per_child: int = setting(
        "integer",
        0,
        "Tasks after which a worker process is replaced, against leaks; 0 never replaces it.",
        low=0,
        high=1_000_000,
        too_low="processes are replaced all the time and their start outweighs the tasks",
        too_high="a leak reaches the memory limit first",
    )
    resources: Mapping[str, Any] = container_resources("100m", "128Mi", "1", "512Mi")
    env: Mapping[str, str] = setting(
        "object",
        {},
        "Environment of the workers, name to value. Not for secrets, which belong into a Secret that "
        "envFrom names.",
    )
    env_from: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        "Secrets and ConfigMaps whose keys become environment variables of the workers, in the shape of a "
        "container's `envFrom`.",
        items="object",
    )
    service_account: str = setting(
        "string",
        "",
        "ServiceAccount of the worker pods, for cloud identities; it must exist. Empty means the "
        "namespace's default. Its token is never mounted.",
    )
    image_pull_secrets: tuple[str, ...] = setting("array", (), "Secrets that open the images' registry.")
    image_pull_policy: str = setting(
        "string",
        "IfNotPresent",
        "When nodes ask the registry for an image. The default suits tags that never move.",
        choices=("IfNotPresent", "Always", "Never"),
    )
    behavior: Mapping[str, Any] = setting(
        "object",
        {},
        "How fast the pool may grow and shrink, in the shape of a HorizontalPodAutoscaler's `behavior`. "
        "Left out, it grows at once and shrinks after 60 s of calm.",
    )
    paused: bool = setting("boolean", False, "Keeps the pool at its present number of pods.")
    mode: str = setting(
        "string",
        contract.Mode.ACTIVE.value,
        "`active` scales the pool. `shadow` decides, explains and exports everything and writes nothing: no "
        "replicas, no word to the workers. So it may run beside a HorizontalPodAutoscaler or a KEDA "
        "ScaledObject on the same Deployment, for comparison.",
        choices=tuple(mode.value for mode in contract.Mode),
    )
