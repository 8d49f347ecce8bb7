"""The stack, composed: which components there are, what each needs, in which order they come and go.

`deploy` declares and reads nothing: the settings are checked by then (`infra.settings`) and the cluster was
looked at (`infra.live.first_look`). The order up is the dependencies': namespace, network policies, broker
and result backend, CRD and `Celery` objects, workers, beat, Flower, scaler, and last `FleetLifecycle`, which
depends on everything and waits until the fleet works. The order down is the reverse, so it goes while all
else still lives.

A component's `depends_on` holds for its children: they are registered after it and deleted before it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.components import broker as brokers
from infra.components import fleet_schema, flower, pod_baseline, result_backend, sample_app
from infra.components.autoscaler import Autoscaler, AutoscalerArgs
from infra.components.beat import Beat, BeatArgs
from infra.components.broker import Broker, BrokerArgs
from infra.components.connections import Connections
from infra.components.fleet_objects import FleetObjects, FleetObjectsArgs
from infra.components.flower import Flower, FlowerArgs
from infra.components.network import Network, NetworkArgs
from infra.components.result_backend import ResultBackend, ResultBackendArgs
from infra.components.result_cleaner import ResultCleaner, ResultCleanerArgs
from infra.components.sample_app import SampleApp, SampleAppArgs
from infra.components.server import Program, Server, ServerArgs
from infra.components.workers import Workers, WorkersArgs
from infra.lifecycle import FleetLifecycle, FleetLifecycleArgs
from infra.live.first_look import STACK_LABEL, FirstLook
from infra.settings import Settings
from infra.settings.delivery import results_in_a_database
from scaler import contract

Runs = Server | Workers | Beat | ResultCleaner | Flower | SampleApp | Autoscaler
"""The components with pods."""


def deploy(settings: Settings, seen: FirstLook) -> None:
    """Declare every resource of the stack, and export what people paste."""
    for warning in (*settings.warnings, *seen.warnings):
        pulumi.log.warn(str(warning))
    provider = kubernetes.Provider(
        "cluster",
        context=settings.context or None,
        kubeconfig=settings.kubeconfig or None,
        # A renamed context or a moved kubeconfig is the same cluster; without an identity the provider
        # would guess, and replace every object.
        cluster_identifier=seen.cluster_uid or None,
        # Else a Secret whose data changed is replaced, and with it what depends on it
        # (pulumi/pulumi-kubernetes#1772).
        enable_secret_mutable=True,
        enable_config_map_mutable=True,
    )
    namespace: list[pulumi.Resource] = [_namespace(settings, provider)] if settings.create_namespace else []
    if settings.network_policies:
        opts = pulumi.ResourceOptions(provider=provider, depends_on=list(namespace))
        namespace.append(Network("network", NetworkArgs(settings=settings), opts))
    first = pulumi.ResourceOptions(provider=provider, depends_on=namespace)
    known = BrokerArgs(settings=settings, known_keys=seen.broker_keys, known_scheme=seen.broker_scheme)
    broker = Broker("broker", known, first)
    results = ResultBackend("results", ResultBackendArgs(settings=settings, broker=broker), first)
    servers = _servers(settings, broker, results, first)
    connections = Connections(settings=settings, broker=broker, results=results)
    objects = FleetObjects("fleet", FleetObjectsArgs(settings=settings, own_crd=_owns_crd(seen)), first)
    reached: list[pulumi.Resource] = [*namespace, broker, results, *servers.values()]
    then = pulumi.ResourceOptions(provider=provider, depends_on=reached)
    pools = [
        Workers(
            f"workers-{pool.name}", WorkersArgs(settings=settings, pool=pool, connections=connections), then
        )
        for pool in settings.pools
    ]
    scaler = Autoscaler(
        "scaler",
        AutoscalerArgs(settings=settings, broker=broker),
        pulumi.ResourceOptions(provider=provider, depends_on=[*reached, objects, *pools]),
    )
    flower_args = FlowerArgs(settings=settings, connections=connections)
    page = [Flower("flower", flower_args, then)] if settings.flower else []
    sample_args = SampleAppArgs(settings=settings, connections=connections)
    sample = [SampleApp("sample-app", sample_args, then)] if settings.sample_app else []
    beat_args = BeatArgs(settings=settings, connections=connections)
    beat = [Beat("beat", beat_args, then)] if settings.beat else []
    cleaner_args = ResultCleanerArgs(settings=settings, connections=connections)
    cleaner = [ResultCleaner("result-cleaner", cleaner_args, then)] if results_in_a_database(settings) else []
    running: list[Runs] = [*servers.values(), *pools, *beat, *cleaner, *page, *sample, scaler]
    FleetLifecycle(
        "lifecycle",
        FleetLifecycleArgs(
            namespace=settings.namespace,
            context=settings.context,
            kubeconfig_path=settings.kubeconfig,
            stack=settings.stack,
            deployments=[part.deployment_name for part in running],
            shadow=[
                contract.worker_deployment_name(pool.name)
                for pool in settings.pools
                if pool.mode == contract.Mode.SHADOW
            ],
            celeries=dict(objects.digests),
            config_digest=_digest([part.template for part in running]),
            ready_timeout_seconds=settings.ready_timeout_seconds,
            image_timeout_seconds=settings.image_timeout_seconds,
            on_destroy=settings.on_destroy,
            drain_timeout_seconds=settings.drain_timeout_seconds,
            producers=[*(part.deployment_name for part in sample), *(part.deployment_name for part in beat)],
            queues={pool.name: ",".join(pool.queues) for pool in settings.pools},
            broker=brokers.keeping_of(settings, servers.get(settings.broker)),
            schema_revision=max(fleet_schema.REVISION, seen.schema_revision or 0),
        ),
        pulumi.ResourceOptions(depends_on=[provider, *namespace, broker, results, objects, *running]),
    )
    _export(settings, broker, page)


def _namespace(settings: Settings, provider: kubernetes.Provider) -> kubernetes.core.v1.Namespace:
    labels = {
        STACK_LABEL: settings.stack,
        "app.kubernetes.io/part-of": pod_baseline.PART_OF,
        "pod-security.kubernetes.io/enforce": "restricted",
    }
    metadata: Any = {"name": settings.namespace, "labels": labels}
    return kubernetes.core.v1.Namespace(
        "namespace", metadata=metadata, opts=pulumi.ResourceOptions(provider=provider)
    )


def _servers(
    settings: Settings, broker: Broker, results: ResultBackend, opts: pulumi.ResourceOptions
) -> dict[str, Server]:
    """Those that the stack runs for itself, by name: for the broker, for results, or one Redis for both."""
    wanted: list[tuple[Program | None, str, Broker | ResultBackend]] = [
        (brokers.program_of(settings), "broker", broker),
        (result_backend.program_of(settings), "result-backend", results),
    ]
    return {
        program.name: Server(
            ServerArgs(
                settings=settings,
                program=program,
                component=component,
                secret_name=owner.secret_name,
                mark=owner.mark,
                needed=owner.secrets,
            ),
            opts,
        )
        for program, component, owner in wanted
        if program is not None
    }


def _owns_crd(seen: FirstLook) -> bool:
    """An older schema would make the API server drop newer fields from other stacks' objects."""
    if (seen.schema_revision or 0) <= fleet_schema.REVISION:
        return True
    pulumi.log.warn(
        f"the cluster's {contract.CRD_NAME} has schema revision {seen.schema_revision}, this program knows "
        f"{fleet_schema.REVISION}: it is left as it is. Update Celery Fleet to use what is new."
    )
    return False


def _digest(templates: list[pod_baseline.Manifest]) -> pulumi.Output[str]:
    """A text that changes when any pod has to start anew."""
    return pulumi.Output.json_dumps(templates, sort_keys=True).apply(
        lambda text: hashlib.sha256(text.encode()).hexdigest()[:16]
    )


def _export(settings: Settings, broker: Broker, page: list[Flower]) -> None:
    namespace = settings.namespace
    pulumi.export("namespace", namespace)
    pulumi.export("brokerSecret", broker.secret_name)
    pulumi.export("watch", f"kubectl get cel -n {namespace} -w")
    if page:
        way = reach(
            settings.flower_service_type, settings.flower_node_port, namespace, flower.SERVICE, flower.PORT
        )
        pulumi.export("flower", way)
        encoded = f"kubectl get secret {page[0].auth_secret_name} -n {namespace}"
        path = f"jsonpath='{{.data.{flower.AUTH_KEY}}}'"
        pulumi.export("flowerLogin", f"{encoded} -o {path} | base64 -d")
    pulumi.export(
        "scaler",
        reach(
            settings.scaler_service_type,
            settings.scaler_node_port,
            namespace,
            contract.SCALER_NAME,
            contract.HTTP_PORT,
        ),
    )
    if settings.sample_app:
        port = settings.sample_app_node_port
        kind = "NodePort" if port else "ClusterIP"
        pulumi.export("sampleApp", reach(kind, port, namespace, sample_app.SERVICE, sample_app.PORT))


def reach(kind: str, node_port: int, namespace: str, service: str, port: int) -> str:
    """How a person gets to a Service."""
    if kind == "NodePort" and node_port:
        return f"http://<address of any node>:{node_port}"
    if kind == "ClusterIP":
        forward = f"kubectl port-forward -n {namespace} service/{service} {port}:{port}"
        return f"{forward}, then http://localhost:{port}"
    return f"kubectl get service {service} -n {namespace} -o wide"
