"""What the lifecycle resource reads from the cluster: the program's only Kubernetes client.

It owns requests and their failures: every one has a deadline, and `ClusterUnavailable` or `NotAllowed`
says in one sentence what could not be had. It writes one thing, the replicas of the stack's own producers
while the fleet empties. Objects come out as `infra.live.sightings` or `scaler.emptying` have them; what they
mean is decided in `infra.live.readiness`, `infra.live.preflight` and `infra.live.departure`.

`infra.lifecycle` imports this module inside its methods: it loads lightkube.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Self

import httpx2
from lightkube import Client
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.apps_v1 import Deployment, DeploymentScale, ReplicaSet
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Event, Namespace, Pod
from lightkube.types import PatchType

from infra.components.fleet_schema import REVISION_ANNOTATION
from infra.live import reading
from infra.live.kubeconfig import settings_of
from infra.live.sightings import Autoscaler, Autoscalers, CelerySeen, DeploymentSeen, PodSeen, Right, Seen
from scaler import contract, emptying

TIMEOUT: Final = httpx2.Timeout(10, connect=5)
LOG_LINES: Final = 8
STACK_LABEL: Final = "app.kubernetes.io/instance"
"""On every object of a stack (`infra.components.pod_baseline.Identity`), with the stack's name."""
URL_PASSWORD: Final = re.compile(r"(://[^/\s:@]*:)[^@\s]+@")
"""Logs are the user's: the password of a broker or database URL does not go into an error message."""

ONE_AT_A_TIME: Final = threading.RLock()
"""The engine runs several resources of one provider in threads of one process, and msgspec (0.22.0), which
reads the answers, ends it by a segmentation fault where two threads meet a type for the first time."""

Celery = create_namespaced_resource(contract.GROUP, contract.VERSION, contract.KIND, contract.PLURAL)
ScaledObject = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")


class ClusterUnavailable(Exception):  # noqa: N818  # the fact, not the failure
    """Nothing could be read: the message says which cluster, why, and what to do."""


class NotAllowed(Exception):  # noqa: N818  # the fact, not the failure
    """The cluster answered 403: the message is its own."""


class NotThere(Exception):  # noqa: N818  # the fact, not the failure
    """404: the object, or its whole kind."""


class Cluster:
    """One cluster, by kubectl's rules. Raises infra.live.kubeconfig.NoCluster where there is none."""

    def __init__(self, context: str, kubeconfig: str) -> None:
        settings = settings_of(context, kubeconfig)
        self.description = f"{settings.cluster.server} (context {settings.context_name})"
        with self._asking():
            self._client = Client(config=settings, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def uid(self) -> str:
        """The cluster's identity: kube-system lives as long as it does. "" to a user who may not see it."""
        try:
            with self._asking():
                found = self._client.get(Namespace, "kube-system")
        except NotAllowed:
            return ""
        return (found.metadata.uid if found.metadata else None) or ""

    def has_namespace(self, name: str) -> bool:
        try:
            with self._asking():
                self._client.get(Namespace, name)
        except NotThere:
            return False
        except NotAllowed:
            return True
        return True

    def read_fleet(
        self, namespace: str, deployments: Iterable[str], celeries: Iterable[str], now: datetime
    ) -> Seen:
        """Four lists, whatever the fleet's size; a fifth, of events, while some pod is being set up."""
        with self._asking():
            found = {
                reading.name_of(item): item for item in self._client.list(Deployment, namespace=namespace)
            }
            sets = list(self._client.list(ReplicaSet, namespace=namespace))
            pods = [pod for pod in self._client.list(Pod, namespace=namespace) if reading.counts(pod)]
            setting_up = any(reading.is_being_set_up(pod) for pod in pods)
            warnings = self._read_warnings(namespace) if setting_up else {}
        seen: dict[str, DeploymentSeen | None] = {}
        for name in deployments:
            deployment = found.get(name)
            if deployment is None:
                seen[name] = None
                continue
            newest = reading.newest_replica_set(deployment, sets)
            own = (
                reading.pod(pod, warnings.get(reading.name_of(pod), ()), now)
                for pod in pods
                if newest and reading.owner_of(pod) == newest
            )
            pods_seen = tuple(self._with_logs(namespace, pod) for pod in own)
            seen[name] = reading.deployment(deployment, pods_seen)
        return Seen(deployments=seen, celeries=self._read_celeries(namespace, celeries))

    def read_emptying(self, namespace: str, names: Iterable[str]) -> emptying.Sight:
        """Three requests: whatever pools there are, and those named; the scaler; its Lease."""
        try:
            objects, defined = self._asked_celeries(namespace), True
        except NotThere:
            objects, defined = {}, False
        found = {name: _left(item) for name, item in objects.items()}
        return emptying.Sight(
            pools={**dict.fromkeys(names), **found},
            scaler=self._read_scaler(namespace),
            defined=defined,
        )

    def _read_scaler(self, namespace: str) -> emptying.Scaler | None:
        try:
            with self._asking():
                deployment = self._client.get(Deployment, contract.SCALER_NAME, namespace=namespace)
        except NotThere:
            return None
        try:
            with self._asking():
                lease = self._client.get(Lease, contract.SCALER_NAME, namespace=namespace).to_dict()
        except NotThere:
            lease = None
        return emptying.scaler_of(deployment.to_dict(), lease)

    def scale(self, namespace: str, deployment: str, replicas: int) -> int | None:
        """Returns how many replicas were asked for before; None where there is no such Deployment."""
        try:
            with self._asking():
                before = self._client.get(DeploymentScale, deployment, namespace=namespace)
                change = {"spec": {"replicas": replicas}}
                self._client.patch(
                    DeploymentScale, deployment, change, namespace=namespace, patch_type=PatchType.MERGE
                )
        except NotThere:
            return None
        return (before.spec.replicas if before.spec else None) or 0

    def read_stopped(self, namespace: str, deployments: Iterable[str]) -> list[str]:
        """Those of them that are there and are asked for no pod, as far as this user may see it."""
        wanted = set(deployments)
        if not wanted:
            return []
        with suppress(NotThere, NotAllowed), self._asking():
            found = self._client.list(Deployment, namespace=namespace)
            return sorted(
                reading.name_of(item)
                for item in found
                if item.spec is not None and item.spec.replicas == 0 and reading.name_of(item) in wanted
            )
        return []

    def read_autoscalers(self, namespace: str) -> Autoscalers:
        """Whatever else writes the replicas of a Deployment here, as far as this user may see it."""
        found, unseen = [], []
        for kind, read in (
            ("ScaledObject", self._scaled_objects),
            ("HorizontalPodAutoscaler", self._pod_autoscalers),
        ):
            try:
                with self._asking():
                    targets = list(read(namespace))
            except NotThere:
                continue  # no KEDA here
            except NotAllowed:
                unseen.append(kind)
                continue
            found += [Autoscaler(kind, name, deployment) for name, deployment in targets]
        return Autoscalers(tuple(found), tuple(unseen))

    def _scaled_objects(self, namespace: str) -> Iterator[tuple[str, str]]:
        for scaled in self._client.list(ScaledObject, namespace=namespace):
            target = (scaled.get("spec") or {}).get("scaleTargetRef") or {}
            if target.get("kind", "Deployment") == "Deployment":
                yield reading.name_of(scaled), target.get("name", "")

    def _pod_autoscalers(self, namespace: str) -> Iterator[tuple[str, str]]:
        for hpa in self._client.list(HorizontalPodAutoscaler, namespace=namespace):
            owners = (hpa.metadata.ownerReferences if hpa.metadata else None) or []
            if any(owner.kind == "ScaledObject" for owner in owners) or hpa.spec is None:
                continue  # KEDA's own, which its ScaledObject stands for
            if hpa.spec.scaleTargetRef.kind == "Deployment":
                yield reading.name_of(hpa), hpa.spec.scaleTargetRef.name

    def read_stack(self, namespace: str) -> str:
        """Whose scaler runs in this namespace; "" where there is none, or it does not say."""
        try:
            with self._asking():
                scaler = self._client.get(Deployment, contract.SCALER_NAME, namespace=namespace)
        except (NotThere, NotAllowed):
            return ""
        labels = (scaler.metadata.labels if scaler.metadata else None) or {}
        return str(labels.get(STACK_LABEL, ""))

    def read_namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """None where there is no such namespace; nothing where this user may not see it."""
        try:
            with self._asking():
                found = self._client.get(Namespace, name)
        except NotThere:
            return None
        except NotAllowed:
            return {}
        return (found.metadata.labels if found.metadata else None) or {}

    def read_schema_revision(self) -> int | None:
        """Of the live CRD; None where there is no CRD, none to be seen, or no number on it."""
        try:
            with self._asking():
                crd = self._client.get(CustomResourceDefinition, contract.CRD_NAME)
        except (NotThere, NotAllowed):
            return None
        annotations = (crd.metadata.annotations if crd.metadata else None) or {}
        revision = annotations.get(REVISION_ANNOTATION, "")
        return int(revision) if revision.isdigit() else None

    def read_denied(self, namespace: str, rights: Iterable[Right]) -> list[str]:
        """Those that this user lacks."""
        denied = []
        for right in rights:
            resource, _, part = right.resource.partition("/")
            asked = ResourceAttributes(
                verb=right.verb,
                group=right.group,
                resource=resource,
                subresource=part or None,
                name=right.name or None,
                namespace=namespace,
            )
            review = SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked))
            with self._asking():
                answer = self._client.create(review)
            if answer.status is not None and not answer.status.allowed:
                denied.append(str(right))
        return denied

    def _read_celeries(self, namespace: str, names: Iterable[str]) -> dict[str, CelerySeen | None]:
        wanted = list(names)
        objects = self._celery_objects(namespace) if wanted else {}
        return {name: reading.celery(objects[name]) if name in objects else None for name in wanted}

    def _celery_objects(self, namespace: str) -> dict[str, dict[str, Any]]:
        try:
            return self._asked_celeries(namespace)
        except NotThere:
            return {}

    def _asked_celeries(self, namespace: str) -> dict[str, dict[str, Any]]:
        with self._asking():
            found = self._client.list(Celery, namespace=namespace)
            return {reading.name_of(item): dict(item) for item in found}

    def _read_warnings(self, namespace: str) -> dict[str, list[tuple[str, str]]]:
        warnings: dict[str, list[tuple[str, str]]] = {}
        events = self._client.list(
            Event, namespace=namespace, fields={"type": "Warning", "involvedObject.kind": "Pod"}
        )
        for event in sorted(events, key=reading.last_seen):
            if event.involvedObject.name and event.reason:
                entry = (event.reason, event.message or "")
                warnings.setdefault(event.involvedObject.name, []).append(entry)
        return warnings

    def _with_logs(self, namespace: str, pod: PodSeen) -> PodSeen:
        containers = tuple(
            replace(container, log_tail=self._read_log_tail(namespace, pod.name, container.name))
            if container.crashed
            else container
            for container in pod.containers
        )
        return replace(pod, containers=containers)

    def _read_log_tail(self, namespace: str, pod: str, container: str) -> str:
        """Of the instance that crashed; "" where it cannot be had: the crash is said without it."""
        try:
            with self._asking():
                lines = self._client.log(
                    pod, namespace=namespace, container=container, tail_lines=LOG_LINES, newlines=False
                )
                return "\n".join(URL_PASSWORD.sub(r"\1***@", line[:300]) for line in lines)
        except (ClusterUnavailable, NotAllowed, NotThere):
            return ""

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with ONE_AT_A_TIME:
                yield
        except httpx2.HTTPStatusError as error:
            code = error.response.status_code
            if code == 404:
                raise NotThere(str(error)) from error
            if code == 403:
                raise NotAllowed(str(error)) from error
            why = "it does not accept these credentials" if code == 401 else f"it answers {code}, {error}"
            raise ClusterUnavailable(f"the cluster {self.description}: {why}") from error
        except (httpx2.HTTPError, ConfigError, OSError) as error:
            # OSError: a certificate file, or the kubeconfig's login program, that is not there.
            raise ClusterUnavailable(
                f"the cluster {self.description} cannot be reached: {error or type(error).__name__}"
            ) from error


def _left(item: Mapping[str, Any]) -> emptying.Left:
    return emptying.left_of(item["metadata"].get("generation", 1), item.get("status"))
