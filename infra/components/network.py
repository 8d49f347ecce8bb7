"""Who may speak to whom: NetworkPolicies that deny everything to the stack's pods but what they need.

It owns one policy that closes all pods of the stack, in both directions, and one for each kind of pod that
opens its flows again; policies add up, so the order does not matter. They pick pods by the labels that
`infra.components.pod_baseline.Identity` gives them, and only the stack's own: in a namespace that others
use, too, nobody else is closed.

They come before the pods and go after them: an allowing policy that went first would cut workers off that
still finish their tasks. Why each flow is as wide as it is: docs/decisions/0019-closed-by-default.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi_kubernetes import networking

from infra.components import external, flower, postgresql, rabbitmq, redis, result_cleaner, sample_app
from infra.components.pod_baseline import PART_OF, Manifest
from infra.settings import Settings
from infra.settings.backends import EXTERNAL, POSTGRESQL, RABBITMQ, REDIS
from infra.settings.delivery import results_in_a_database
from scaler import contract

DNS: Final = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
"""Wherever the name server is: a node-local cache has an address that no selector picks."""
ANY_PORT: Final = {"protocol": "TCP", "port": 1, "endPort": 65535}
EVERYBODY: Final = "app.kubernetes.io/part-of"
NAME: Final = "app.kubernetes.io/name"
STACK: Final = "app.kubernetes.io/instance"

WORKER, BEAT, FLOWER, SAMPLE, CLEANER, SCALER = (
    "celery-worker",
    "celery-beat",
    "flower",
    "sample-app",
    result_cleaner.NAME,
    contract.SCALER_NAME,
)
CLIENTS: Final = (WORKER, BEAT, FLOWER, SAMPLE, CLEANER, SCALER)
"""`app.kubernetes.io/name` of the pods that speak to the broker or the result backend."""
OF_BROKER: Final = (WORKER, BEAT, FLOWER, SAMPLE, SCALER)
OF_RESULTS: Final = (WORKER, BEAT, FLOWER, SAMPLE)
OF_DATABASE: Final = (WORKER, BEAT, SAMPLE, CLEANER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server of the stack, with the ports of each kind of pod that may speak to it."""

    name: str
    ports: tuple[int, ...]
    clients: tuple[str, ...]
    own_ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Ports of single clients beside those of all."""
    open_to_others: bool = True
    """`brokerClients` may reach it, at the ports of all."""

    def ports_of(self, client: str) -> tuple[int, ...]:
        return (*(self.ports if client in self.clients else ()), *self.own_ports.get(client, ()))


def servers(settings: Settings) -> tuple[Server, ...]:
    """The servers that this stack runs."""
    found = []
    if REDIS in (settings.broker, settings.result_backend):
        clients = OF_BROKER if settings.broker == REDIS else OF_RESULTS
        found.append(Server(name=redis.NAME, ports=(redis.PORT,), clients=clients))
    if settings.broker == RABBITMQ:
        management = {SCALER: (rabbitmq.MANAGEMENT_PORT,)}
        ports = (rabbitmq.PORT,)
        found.append(Server(name=rabbitmq.NAME, ports=ports, clients=OF_BROKER, own_ports=management))
    if settings.result_backend == POSTGRESQL:
        found.append(Server(name=postgresql.NAME, ports=(postgresql.PORT,), clients=OF_DATABASE))
    return tuple(found)


def outside(settings: Settings) -> dict[str, list[Manifest]]:
    """By client, the way to servers that the stack does not run: to any address, which their URLs name by
    words, at their URLs' ports; at any port where only a Secret knows the URL."""
    found: dict[str, list[Manifest]] = {}
    for mine, given, callers in (
        (settings.broker == EXTERNAL, settings.broker_url, OF_BROKER),
        (settings.result_backend == EXTERNAL, settings.result_backend_url, (*OF_RESULTS, CLEANER)),
    ):
        for client in callers if mine else ():
            found.setdefault(client, []).append({"ports": _tcp(external.ports_of(given)) or [ANY_PORT]})
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkArgs:
    settings: Settings


class Network(pulumi.ComponentResource):
    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Network", name, None, opts)
        settings = args.settings
        for policy, spec in policies(settings).items():
            metadata: Any = {
                "name": policy,
                "namespace": settings.namespace,
                "labels": {EVERYBODY: PART_OF, STACK: settings.stack},
            }
            networking.v1.NetworkPolicy(
                f"{name}-{policy}",
                metadata=metadata,
                spec=spec,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def policies(settings: Settings) -> dict[str, Any]:
    """`spec` of each policy, by its name."""
    there, beyond = servers(settings), outside(settings)
    found = {"closed": _policy({EVERYBODY: PART_OF, STACK: settings.stack}, [], [])}
    for server in there:
        found[server.name] = _policy(_picked(settings, server.name), _callers(settings, server), [])
    entries = {SCALER: _scaler(settings), FLOWER: _flower(settings), SAMPLE: _sample(settings)}
    for client in clients(settings):
        egress = [DNS, *_calls(settings, client, there), *beyond.get(client, [])]
        if client == SCALER:
            # A NetworkPolicy cannot name the API server: it is neither a pod nor at a known address.
            egress.append({"ports": _tcp(settings.api_server_ports)})
        if client in (WORKER, BEAT):
            egress += [dict(rule) for rule in settings.worker_egress]
        found[client] = _policy(_picked(settings, client), entries.get(client, []), egress)
    return found


def clients(settings: Settings) -> list[str]:
    """Those of CLIENTS that this stack runs."""
    optional = {
        BEAT: settings.beat,
        FLOWER: settings.flower,
        SAMPLE: settings.sample_app,
        CLEANER: results_in_a_database(settings),
    }
    return [client for client in CLIENTS if optional.get(client, True)]


def _calls(settings: Settings, client: str, there: Iterable[Server]) -> list[Manifest]:
    return [
        {"to": [{"podSelector": {"matchLabels": _picked(settings, server.name)}}], "ports": _tcp(ports)}
        for server in there
        if (ports := server.ports_of(client))
    ]


def _callers(settings: Settings, server: Server) -> list[Manifest]:
    by_ports: dict[tuple[int, ...], list[Manifest]] = {}
    for client in clients(settings):
        if ports := server.ports_of(client):
            peer = {"podSelector": {"matchLabels": _picked(settings, client)}}
            by_ports.setdefault(ports, []).append(peer)
    if server.open_to_others and settings.broker_clients:
        by_ports.setdefault(server.ports, []).extend(dict(peer) for peer in settings.broker_clients)
    return [{"from": peers, "ports": _tcp(ports)} for ports, peers in by_ports.items()]


def _scaler(settings: Settings) -> list[Manifest]:
    return _page(contract.HTTP_PORT, settings.scaler_service_type, settings.scaler_clients)


def _flower(settings: Settings) -> list[Manifest]:
    return _page(flower.PORT, settings.flower_service_type, settings.flower_clients)


def _sample(settings: Settings) -> list[Manifest]:
    kind = "NodePort" if settings.sample_app_node_port else "ClusterIP"
    return _page(sample_app.PORT, kind, ())


def _page(port: int, service_type: str, peers: Iterable[Mapping[str, Any]]) -> list[Manifest]:
    """Who comes through a node's port or a load balancer has any address: the node's, or his own."""
    if service_type != "ClusterIP":
        return [{"ports": _tcp((port,))}]
    return [{"from": [dict(peer) for peer in peers], "ports": _tcp((port,))}] if peers else []


def _picked(settings: Settings, name: str) -> dict[str, str]:
    return {NAME: name, STACK: settings.stack}


def _tcp(ports: Iterable[int]) -> list[Manifest]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _policy(labels: Mapping[str, str], ingress: list[Manifest], egress: list[Any]) -> dict[str, Any]:
    directions = {"ingress": ingress, "egress": egress}
    return {
        "podSelector": {"matchLabels": dict(labels)},
        "policyTypes": ["Ingress", "Egress"],
        # Pulumi's engine leaves out an empty list: one that is absent means the same, nothing is allowed.
        **{direction: rules for direction, rules in directions.items() if rules},
    }
