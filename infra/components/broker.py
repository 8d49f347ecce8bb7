"""Redis: the broker and the result backend of the stack, and the Secret that opens it.

It owns the Secret `celery-broker` (keys `password` and `url`), the Deployment and Service `redis` and,
where the stack keeps its data, a PersistentVolumeClaim. With `existingSecret` it makes no Secret and
takes yours, with the same two keys.

It deliberately runs one Redis: no Sentinel, no cluster. Celery's Redis transport does not speak to a
Redis Cluster, and a replica that takes over without the last second's writes loses tasks silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import pulumi
from pulumi_kubernetes import core

from infra.components import pod_baseline
from infra.components.pod_baseline import Identity, Manifest, Pod
from infra.password import GeneratedPassword
from infra.settings import Settings
from infra.settings.delivery import transport_options
from scaler import contract

SECRET: Final = "celery-broker"  # noqa: S105  # a name
URL_KEY: Final = "url"
PASSWORD_KEY: Final = "password"  # noqa: S105  # a name
SERVICE: Final = "redis"
PORT: Final = 6379
PLACING: Final = ("global_keyprefix", "sep", "priority_steps", "unacked_key", "unacked_index_key")
"""Of kombu's options, those that decide under which keys messages lie."""
Keeping = dict[str, pulumi.Input[str]]
PASSWORD_MARK: Final = f"{contract.GROUP}/broker-password-mark"

START: Final = r"""umask 077
printf %s "$REDIS_PASSWORD" | sed 's/[\\"]/\\&/g; s/^/requirepass "/; s/$/"/' > /tmp/auth.conf
exec redis-server /tmp/auth.conf "$@"
"""
"""The password goes through a file, quoted as redis.conf wants it: arguments show in process lists."""

_UNITS: Final[Mapping[str, float]] = {
    "": 1,
    "m": 0.001,
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerArgs:
    settings: Settings


class Broker(pulumi.ComponentResource):
    secret_name: str
    """Holds the broker's URL; pods take it from there, never from an input."""
    pod_annotations: dict[str, pulumi.Output[str]]
    """For every pod that uses the Secret: they change with the password, so the pods start anew."""
    keeping: Keeping
    """What must stay as it is for queued messages to be found again, by the setting's name. Without a
    volume every new pod of Redis begins empty, so whatever makes one belongs to it."""
    deployment_name: str
    template: Manifest

    def __init__(self, name: str, args: BrokerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("celery:infra:Broker", name, None, opts)
        settings = args.settings
        child = pulumi.ResourceOptions(parent=self)
        identity = Identity(stack=settings.stack, name="redis", component="broker")
        needed: list[pulumi.Resource] = []
        self.secret_name = settings.existing_secret or SECRET
        self.pod_annotations = {}
        if not settings.existing_secret:
            password = _password(name, settings, child)
            needed.append(_secret(name, settings, identity, password, child))
            mark = password.apply(lambda text: password_mark(text, salt=settings.namespace))
            self.pod_annotations[PASSWORD_MARK] = pulumi.Output.unsecret(mark)
        self.keeping = _keeping(settings, self.secret_name, identity, self.pod_annotations)
        if settings.redis_persistence["enabled"]:
            needed.append(_claim(name, settings, identity, child))
        pod = _pod(settings, self.secret_name, self.pod_annotations)
        self.deployment_name = SERVICE
        self.template = pod_baseline.template(pod, identity)
        pod_baseline.deployment(
            f"{name}-deployment",
            pod_baseline.DeploymentArgs(
                name=SERVICE,
                namespace=settings.namespace,
                identity=identity,
                template=self.template,
                recreate=True,  # two Redis on one volume would corrupt it
            ),
            pulumi.ResourceOptions(parent=self, depends_on=needed),
        )
        pod_baseline.service(
            f"{name}-service",
            pod_baseline.ServiceArgs(
                name=SERVICE,
                namespace=settings.namespace,
                identity=identity,
                port=PORT,
                target_port=PORT,
            ),
            child,
        )
        self.register_outputs({"secret_name": self.secret_name})


def broker_url(namespace: str, password: str) -> str:
    """Also usable from other namespaces of the cluster."""
    return f"redis://:{quote(password, safe='')}@{SERVICE}.{namespace}.svc:{PORT}/0"


def password_mark(password: str, *, salt: str) -> str:
    """A text that changes when the password does, and is no help in guessing it.

    Whoever may read pods reads annotations: 32 bits of a slow hash leave too many candidates to tell a
    right guess from a wrong one, and too few chances of a collision to matter.
    """
    digest = hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=4)
    return digest.hex()


def _keeping(
    settings: Settings, secret_name: str, identity: Identity, marks: Mapping[str, pulumi.Output[str]]
) -> Keeping:
    """By setting for the sentence that a person reads, and last the pod as a whole, which a newer program
    may change without any setting. A state that lacks one of them is not held to it (`preflight._change`)."""
    options = transport_options(settings)
    kept = settings.redis_persistence
    found: Keeping = {
        "existingSecret": settings.existing_secret,
        "redisPersistence": f"{kept['storageClass'] or 'default'} class" if kept["enabled"] else "none",
        "brokerTransportOptions": _text({key: options[key] for key in PLACING if key in options}),
    }
    if kept["enabled"]:
        return found
    pod = pod_baseline.template(_pod(settings, secret_name, {}), identity)  # the mark is compared by itself
    found |= {
        "imagePullPolicy": settings.defaults.image_pull_policy,
        "imagePullSecrets": ", ".join(settings.defaults.image_pull_secrets),
        "redisImage": settings.redis_image,
        "redisResources": _text(settings.redis_resources),
        "redisTemplate": hashlib.sha256(_text(pod).encode()).hexdigest()[:16],
    }
    mark = marks.get(PASSWORD_MARK)
    return found if mark is None else {**found, "redisPassword": mark}


def environment(secret_name: str) -> list[Manifest]:
    """Celery prefers these two to what the app configures (celery/app/utils.py, Settings)."""
    return [
        secret_variable("CELERY_BROKER_URL", secret_name, URL_KEY),
        secret_variable("CELERY_RESULT_BACKEND", secret_name, URL_KEY),
    ]


def secret_variable(name: str, secret: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _password(name: str, settings: Settings, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    if settings.redis_password:
        return pulumi.Output.secret(settings.redis_password)
    return GeneratedPassword(f"{name}-password", opts=opts).result


def _secret(
    name: str,
    settings: Settings,
    identity: Identity,
    password: pulumi.Output[str],
    opts: pulumi.ResourceOptions,
) -> core.v1.Secret:
    metadata: Any = {"name": SECRET, "namespace": settings.namespace, "labels": identity.labels}
    url = password.apply(lambda text: broker_url(settings.namespace, text))
    return core.v1.Secret(
        f"{name}-secret", metadata=metadata, string_data={PASSWORD_KEY: password, URL_KEY: url}, opts=opts
    )


def _claim(
    name: str, settings: Settings, identity: Identity, opts: pulumi.ResourceOptions
) -> core.v1.PersistentVolumeClaim:
    wanted = settings.redis_persistence
    metadata: Any = {
        "name": SERVICE,
        "namespace": settings.namespace,
        "labels": identity.labels,
        "annotations": pod_baseline.STARTED,
    }
    storage_class = {"storageClassName": wanted["storageClass"]} if wanted["storageClass"] else {}
    spec: Any = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": wanted["size"]}},
        **storage_class,
    }
    return core.v1.PersistentVolumeClaim(f"{name}-claim", metadata=metadata, spec=spec, opts=opts)


def _pod(settings: Settings, secret_name: str, annotations: dict[str, pulumi.Output[str]]) -> Pod:
    persistent = settings.redis_persistence["enabled"]
    data = {"persistentVolumeClaim": {"claimName": SERVICE}} if persistent else {"emptyDir": {}}
    ping = ["sh", "-c", "redis-cli ping | grep -q PONG"]  # redis-cli ends with 0 on an error reply, too
    return Pod(
        image=settings.redis_image,
        pull_policy=settings.defaults.image_pull_policy,
        pull_secrets=settings.defaults.image_pull_secrets,
        resources=settings.redis_resources,
        command=["sh", "-c", START, "redis", *_options(settings)],
        env=[
            secret_variable("REDIS_PASSWORD", secret_name, PASSWORD_KEY),
            secret_variable("REDISCLI_AUTH", secret_name, PASSWORD_KEY),  # read by redis-cli itself
        ],
        container={
            "ports": [{"containerPort": PORT}],
            # A Redis that reads a long AOF is alive and not ready.
            "livenessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 10, "failureThreshold": 6},
            "readinessProbe": {"exec": {"command": ping}, "periodSeconds": 5, "timeoutSeconds": 5},
        },
        mounts={"/data": data},
        grace_period_seconds=60,
        annotations=annotations,
    )


def _options(settings: Settings) -> list[str]:
    """A full Redis refuses new tasks; under every other policy, and by the kernel, queued ones are dropped.

    A quarter of the memory limit stays for buffers, and for copies while the AOF is rewritten.
    """
    most = int(_bytes(str(settings.redis_resources["limits"]["memory"])) * 0.75)
    append_only = "yes" if settings.redis_persistence["enabled"] else "no"
    return [
        *("--port", str(PORT), "--dir", "/data", "--save", "", "--appendonly", append_only),
        *("--maxmemory", str(most), "--maxmemory-policy", "noeviction"),
    ]


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _bytes(quantity: str) -> float:
    number = quantity.rstrip("kmKMGTPEi")
    return float(number) * _UNITS[quantity.removeprefix(number)]
