"""The settings of who may reach what, and of beat. Data, with no behaviour.

`infra.settings.fields.Settings` inherits them. The network policies made of them are in
`infra.components.network`, and why they are what they are in docs/decisions/0019-closed-by-default.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.settings.schema import container_resources, setting

_PEERS = "in the shape of a NetworkPolicy's peers (`namespaceSelector`, `podSelector`, `ipBlock`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What `infra.settings.fields.Settings` inherits."""

    network_policies: bool = setting(
        "boolean",
        True,
        "Lets the stack's pods reach, and be reached by, just what they need. It takes a cluster whose "
        "network enforces NetworkPolicies; elsewhere they are there and do nothing.",
    )
    broker_clients: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        f"Who else may reach the broker and the result backend, such as the application that sends tasks: "
        f"{_PEERS}. A `podSelector` alone means pods of the stack's namespace.",
        items="object",
    )
    worker_egress: tuple[Mapping[str, Any], ...] = setting(
        "array",
        ({},),
        "What workers and beat may reach beside broker, result backend and DNS, in the shape of a "
        "NetworkPolicy's `egress`. The default is everything, since nobody but you knows what tasks call; "
        "[] is nothing.",
        items="object",
    )
    scaler_clients: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        f"Who may reach the scaler's page and /metrics, such as Prometheus: {_PEERS}. With a Service of type "
        "NodePort or LoadBalancer everybody may.",
        items="object",
    )
    flower_clients: tuple[Mapping[str, Any], ...] = setting(
        "array",
        (),
        f"Who may reach Flower, such as an ingress controller: {_PEERS}. With a Service of type NodePort or "
        "LoadBalancer everybody may, its /metrics and /healthcheck included, which ask for no password.",
        items="object",
    )
    api_server_ports: tuple[int, ...] = setting(
        "array",
        (443, 6443),
        "Ports at which the scaler may reach the Kubernetes API. A NetworkPolicy cannot name the API server, "
        "and networks differ in whether they see its Service's port or its own: both are allowed.",
        items="integer",
    )
    flower_read_only: bool = setting(
        "boolean", True, "Flower shows and changes nothing: no task or worker is stopped from its page."
    )
    scaler_page_prefix: str = setting(
        "string",
        "",
        "Path under which a reverse proxy passes the scaler's page on, as `/fleet`. Empty where the proxy "
        "takes it off, or there is none.",
    )
    stack_url: str = setting(
        "string",
        "",
        "Address at which people see this stack, as `https://app.pulumi.com/<org>/celery-fleet/<stack>`, or "
        "its repository: the scaler's page links to it.",
    )
    flower_url: str = setting(
        "string", "", "Address of Flower as people open it: the scaler's page links to it."
    )
    grafana_url: str = setting("string", "", "Address of your Grafana: the scaler's page links to it.")
    beat: bool = setting(
        "boolean",
        False,
        "Runs Celery beat, which sends scheduled tasks: one pod, and never two at a time.",
    )
    beat_pool: str = setting(
        "string",
        "",
        "Pool whose image, app, environment, volumes and place beat takes. Empty means the flat settings'.",
    )
    beat_schedule_persistence: Mapping[str, Any] = setting(
        "object",
        {"enabled": False, "size": "100Mi", "storageClass": ""},
        "Whether beat's schedule file is on a PersistentVolumeClaim. It holds when each task was last sent: "
        "without it a new pod begins intervals anew, so one longer than the time between two deployments "
        "may never come due; tasks at fixed times (`crontab`) do not need it.",
    )
    beat_resources: Mapping[str, Any] = container_resources("20m", "96Mi", "500m", "256Mi")
