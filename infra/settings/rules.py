"""Which settings are wrong, and what to say of each: what is wrong, what it would cause, what mends it.

`values_of` turns one layer of configuration (the flat keys, or one entry of `pools`) into values of the
right type; `problems_between` checks what only shows when they are put together. Both collect problems
and raise nothing: a person mends all of them in one go. The shapes of nested objects are in
`infra.settings.shapes`; what is said at the end, and where values come from, is in `infra.settings`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from infra.password import MIN_LENGTH
from infra.settings.fields import Settings
from infra.settings.names import LABEL
from infra.settings.pod_rules import problems_of_doors, problems_of_mounts
from infra.settings.pool import Pool
from infra.settings.problem import Place, Problem, shell, step
from infra.settings.schema import Setting, settings_of
from infra.settings.shapes import SHAPES
from scaler import contract

NODE_PORTS: Final = range(30000, 32768)
"""The API server's default `--service-node-port-range`."""

POOL_SETTINGS: Final = settings_of(Pool)
STACK_SETTINGS: Final = settings_of(Settings)
FLAT_SETTINGS: Final = {**POOL_SETTINGS, **STACK_SETTINGS}


def values_of(
    given: Mapping[str, Any], known: Mapping[str, Setting], place: Place, problems: list[Problem]
) -> dict[str, Any]:
    """The values of the right type, by field name; the others become problems."""
    fields = {setting.name: field for field, setting in known.items()}
    values = {}
    for name, value in given.items():
        if name not in fields:
            problems.append(_unknown(name, fields, place))
            continue
        setting = known[fields[name]]
        found = list(_problems_of(setting, value, place))
        problems += found
        if not found:
            values[fields[name]] = tuple(value) if setting.type == "array" else value
    return values


def _unknown(name: str, fields: Iterable[str], place: Place) -> Problem:
    close = difflib.get_close_matches(name, list(fields), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return Problem(
        key=place.key(name),
        wrong="there is no such setting",
        effect=f"nothing would read it{hint}",
        command=place.remove_command(name),
    )


TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "string": (str, "text"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list"),
    "object": (dict, "an object"),
}


def _problems_of(setting: Setting, value: Any, place: Place) -> Iterator[Problem]:
    kind, name = TYPES[setting.type]
    if type(value) is not kind:
        yield Problem(
            key=place.key(setting.name),
            wrong=f"must be {_wanted(setting, name)}, not {_shown(setting, value)}",
            effect="its meaning would be guessed",
            command=place.set_command(setting.name, _example(setting)),
        )
    elif setting.low is not None and isinstance(value, int) and value < setting.low:
        yield _outside(setting, value, place, setting.too_low, setting.low)
    elif setting.high is not None and isinstance(value, int) and value > setting.high:
        yield _outside(setting, value, place, setting.too_high, setting.high)
    elif setting.choices and value not in setting.choices:
        close = difflib.get_close_matches(str(value).lower(), setting.choices, n=1)
        yield Problem(
            key=place.key(setting.name),
            wrong=f"must be one of {', '.join(setting.choices)}, not {value!r}",
            effect="it would be refused where it is used, after half of the stack is there",
            command=place.set_command(setting.name, close[0] if close else setting.default),
        )
    elif setting.name in SHAPES:
        for path, wrong, effect, example in SHAPES[setting.name](value):
            dotted = f"{setting.name}{path}"
            yield Problem(
                key=place.key(dotted),
                wrong=wrong,
                effect=effect or setting.too_low,
                command=place.set_command(dotted, example) if example else place.remove_command(dotted),
            )


def _outside(setting: Setting, value: int, place: Place, effect: str, nearest: int) -> Problem:
    return Problem(
        key=place.key(setting.name),
        wrong=f"must be {_wanted(setting, 'a whole number')}, not {value}",
        effect=effect or "no such number can be had",
        command=place.set_command(setting.name, nearest),
    )


def _wanted(setting: Setting, name: str) -> str:
    return f"{name} from {setting.low} to {setting.high}" if setting.low is not None else name


def _shown(setting: Setting, value: object) -> str:
    return "what it is" if setting.secret else repr(value)


def _example(setting: Setting) -> object:
    if setting.type == "boolean":
        return str(setting.default).lower()
    return setting.default if setting.type in ("integer", "string") else f"<{TYPES[setting.type][1]}>"


def problems_of_pool(pool: Pool, place: Mapping[str, Place]) -> Iterator[Problem]:
    """What is wrong with one pool as a whole; `place` tells which layer each field came from."""
    if not pool.image:
        yield Problem(
            key=place["image"].key("image"),
            wrong="is missing",
            effect=POOL_SETTINGS["image"].too_low,
            command=place["image"].set_command("image", "<image with your Celery app>"),
        )
    if pool.min_replicas > pool.max_replicas:
        where = place["min_replicas"]
        yield Problem(
            key=where.key("minReplicas"),
            wrong=f"{contract.MIN_ABOVE_MAX.message} ({pool.min_replicas} > {pool.max_replicas})",
            effect="no number of workers would be allowed",
            command=where.set_command("minReplicas", pool.max_replicas),
        )
    yield from problems_of_mounts(pool, place)


def problems_between(pools: Iterable[Pool], places: Mapping[str, Mapping[str, Place]]) -> Iterator[Problem]:
    """A queue belongs to one pool: the demand of two pools would count its messages twice."""
    owners: dict[str, str] = {}
    for pool in pools:
        taken = [queue for queue in pool.queues if owners.setdefault(queue, pool.name) != pool.name]
        for queue in taken:
            yield Problem(
                key=places[pool.name]["queues"].key("queues"),
                wrong=f"{queue!r} is served by pool {owners[queue]}, too (by pool {pool.name} here)",
                effect="each of its messages would start workers in both pools",
                command=places[pool.name]["name"].set_command(
                    f"queues[{pool.queues.index(queue)}]", f"<queue of {pool.name}>"
                ),
            )


def problems_of_names(names: Iterable[str]) -> Iterator[Problem]:
    for name in names:
        if not name.strip():
            yield Problem(
                key=f"pools{step(name)}",
                wrong="a pool must have a name",
                effect="its Deployment and its Celery object are named after it",
                command=f"pulumi config rm --path {shell(f'pools{step(name)}')}",
            )


def problems_of_stack(settings: Settings, secret_keys: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with the settings of the stack as a whole."""
    top = Place()
    if not LABEL.fullmatch(settings.namespace) or len(settings.namespace) > 63:
        yield Problem(
            key="namespace",
            wrong=f"{settings.namespace!r} is no name for a namespace (a DNS label of at most 63 characters)",
            effect="Kubernetes would refuse it",
            command=top.set_command("namespace", "<name>"),
        )
    if settings.kubeconfig.lstrip().startswith(("{", "apiVersion")) or "\n" in settings.kubeconfig:
        yield Problem(
            key="kubernetes:kubeconfig",
            wrong="must be the path of a file, not its contents",
            effect="the cluster's credentials would be stored in the stack's state",
            command="pulumi config set kubernetes:kubeconfig <path>",
        )
    for field in ("image_registry", "image_tag", "redis_image"):
        if not getattr(settings, field):
            setting = STACK_SETTINGS[field]
            yield Problem(
                key=setting.name,
                wrong="must not be empty",
                effect=setting.too_low,
                command=top.set_command(setting.name, setting.default),
            )
    for owner in ("flower", "scaler", "sample_app"):
        yield from _node_port(settings, owner)
    yield from problems_of_doors(settings)
    moved = sorted({"sep", "priority_steps", "global_keyprefix"} & set(settings.broker_transport_options))
    if settings.sample_app and moved:
        yield Problem(
            key="sampleApp",
            wrong=f"brokerTransportOptions sets {', '.join(moved)}, which the sample app does not know",
            effect="it would publish tasks under keys that no worker looks at",
            command=top.set_command("sampleApp", "false"),
        )
    if settings.visibility_timeout_seconds and "visibility_timeout" in settings.broker_transport_options:
        yield Problem(
            key="brokerTransportOptions.visibility_timeout",
            wrong="visibilityTimeoutSeconds is given as well",
            effect="only one of them can hold",
            command=top.remove_command("brokerTransportOptions.visibility_timeout"),
        )
    yield from _passwords(settings, secret_keys)


def _node_port(settings: Settings, owner: str) -> Iterator[Problem]:
    setting = STACK_SETTINGS[f"{owner}_node_port"]
    port: int = getattr(settings, f"{owner}_node_port")
    if port and port not in NODE_PORTS:
        yield Problem(
            key=setting.name,
            wrong=f"must be 0 or from {NODE_PORTS.start} to {NODE_PORTS.stop - 1}, not {port}",
            effect="the API server would refuse the Service",
            command=Place().set_command(setting.name, 0),
        )
    elif port and getattr(settings, f"{owner}_service_type", "NodePort") == "ClusterIP":
        kind = STACK_SETTINGS[f"{owner}_service_type"].name
        yield Problem(
            key=setting.name,
            wrong=f"a Service of type ClusterIP has no port on the nodes, {port} cannot be given",
            effect="the API server would refuse the Service",
            command=Place().set_command(kind, "NodePort"),
        )


def _passwords(settings: Settings, secret_keys: Iterable[str]) -> Iterator[Problem]:
    password = settings.redis_password
    again = "pulumi config set --secret redisPassword"
    if password and settings.existing_secret:
        yield Problem(
            key="existingSecret",
            wrong="redisPassword is given as well",
            effect="only one of them can be the broker's password",
            command="pulumi config rm redisPassword",
        )
    if password and "redisPassword" not in secret_keys:
        yield Problem(
            key="redisPassword",
            wrong="is stored in the clear",
            effect="whoever reads the stack's file reads the password",
            command=again,
        )
    if password and len(password) < MIN_LENGTH:
        yield Problem(
            key="redisPassword",
            wrong=f"has fewer than {MIN_LENGTH} characters",
            effect="Redis has no lock-out: it answers some 100,000 guesses a second",
            command=again,
        )
    if not password.isascii() or not password.isprintable() or re.search(r"\s", password):
        yield Problem(
            key="redisPassword",
            wrong="must be printable ASCII without blanks",
            effect="clients and redis.conf would disagree about what it is",
            command=again,
        )
    if settings.existing_secret and settings.create_namespace:
        yield Problem(
            key="existingSecret",
            wrong="the namespace that should hold it is made, and removed, by this stack",
            effect="no pod could start: their password is not there yet",
            command="pulumi config set createNamespace false",
        )
    if settings.flower_auth_secret and settings.create_namespace:
        yield Problem(
            key="flowerAuthSecret",
            wrong="the namespace that should hold it is made, and removed, by this stack",
            effect="Flower could not start: its password is not there yet",
            command="pulumi config set createNamespace false",
        )
    for key in sorted(set(secret_keys) - {"redisPassword"}):
        yield Problem(
            key=key,
            wrong="is set as a secret, and it would be written into a Deployment in the clear",
            effect="whoever may read Deployments reads it",
            command="make a Secret, name it in envFrom, and take it out: " + Place().remove_command(key),
        )
