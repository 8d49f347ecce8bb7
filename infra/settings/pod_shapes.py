"""The shapes of the settings that go into pods and network policies as they are: Kubernetes' own.

Like `infra.settings.shapes`, whose form of findings this shares. Checked is what would show late, only in
some cluster, or never: what collides with the stack's own, what Pod Security `restricted` refuses once the
Deployment is there, and members of the wrong kind. The API server refuses the rest when it is applied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from infra.settings.problem import step
from scaler import contract

Wrong = tuple[str, str, str, str]

_REFUSED: Final = "the API server would refuse it, after half of the stack is there"
_NOT_ADMITTED: Final = "Pod Security `restricted` would admit none of the pool's pods"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")

SCRATCH: Final = "tmp"
"""The volume that every pod of the stack has, mounted at /tmp."""
WORKER: Final = "celery-worker"
"""The workers' container."""
VOLUME_KINDS: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
OUR_LABELS: Final = frozenset(
    {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
        "app.kubernetes.io/part-of",
        contract.POOL_LABEL,
    }
)
OUR_ANNOTATIONS: Final = "controller.kubernetes.io/pod-deletion-cost"
"""The scaler's mark on a worker that is to leave; those below the group's name are ours, too."""


def _objects(value: list[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and entry of those that are objects; `_no_object` speaks of the others."""
    for number, entry in enumerate(value):
        if isinstance(entry, dict):
            yield f"[{number}]", entry


def _no_object(value: list[Any]) -> Iterator[Wrong]:
    for number, entry in enumerate(value):
        if not isinstance(entry, dict):
            yield f"[{number}]", f"must be an object, not {entry!r}", _REFUSED, ""


def _named(value: list[Any], taken: str, what: str) -> Iterator[Wrong]:
    """Each entry has a name that is a DNS label, no other's, and not the stack's own."""
    yield from _no_object(value)
    seen: set[str] = set()
    for path, entry in _objects(value):
        name = entry.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            yield f"{path}.name", f"must be a DNS label, not {name!r}", _REFUSED, f"<name of the {what}>"
        elif name == taken:
            yield f"{path}.name", f"{name!r} is the stack's own {what}", _REFUSED, f"my-{name}"
        elif name in seen:
            yield f"{path}.name", f"{name!r} is there twice", _REFUSED, f"<another name for the {what}>"
        else:
            seen.add(name)


def _volumes(value: list[Any]) -> Iterator[Wrong]:
    yield from _named(value, SCRATCH, "volume")
    for path, entry in _objects(value):
        kinds = sorted(set(entry) - {"name"})
        if len(kinds) != 1:
            yield path, f"must have one source beside its name, not {len(kinds)}", _REFUSED, ""
        elif kinds[0] not in VOLUME_KINDS:
            yield f"{path}{step(kinds[0])}", f"a volume cannot be {kinds[0]} here", _NOT_ADMITTED, ""


def _volume_mounts(value: list[Any]) -> Iterator[Wrong]:
    yield from _no_object(value)
    seen: set[str] = set()
    for path, entry in _objects(value):
        where = entry.get("mountPath")
        if not isinstance(entry.get("name"), str):
            wrong = f"must be the name of a volume, not {entry.get('name')!r}"
            yield f"{path}.name", wrong, _REFUSED, "<name of a volume>"
        if not isinstance(where, str) or not where.startswith("/"):
            yield f"{path}.mountPath", f"must be an absolute path, not {where!r}", _REFUSED, "/<folder>"
        elif where.rstrip("/") in ("", "/tmp"):  # noqa: S108  # in the container
            wrong = f"{where} is the stack's own"
            yield f"{path}.mountPath", wrong, "the workers could not write to their scratch folder", "/data"
        elif where in seen:
            yield f"{path}.mountPath", f"{where} is mounted twice", _REFUSED, ""
        else:
            seen.add(where)


def _init_containers(value: list[Any]) -> Iterator[Wrong]:
    yield from _named(value, WORKER, "container")
    for path, entry in _objects(value):
        if not isinstance(entry.get("image"), str) or not entry["image"]:
            yield f"{path}.image", "is missing", _REFUSED, "<image>"
        security = entry.get("securityContext", {})
        if not isinstance(security, dict):
            yield f"{path}.securityContext", f"must be an object, not {security!r}", _REFUSED, ""
            continue
        for name, wrong in _loosened(security):
            yield f"{path}.securityContext.{name}", wrong, _NOT_ADMITTED, ""


def _loosened(security: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What `restricted` does not admit."""
    for name, wanted in (("privileged", False), ("allowPrivilegeEscalation", False), ("runAsNonRoot", True)):
        if security.get(name, wanted) is not wanted:
            yield name, f"must be {str(wanted).lower()}, not {security[name]!r}"
    if security.get("runAsUser", 1) == 0:
        yield "runAsUser", "must not be 0"
    capabilities = security.get("capabilities", {"drop": ["ALL"]})
    kept = isinstance(capabilities, dict) and "ALL" in (capabilities.get("drop") or ())
    added = set(capabilities.get("add") or ()) if isinstance(capabilities, dict) else set()
    if not kept or added - {"NET_BIND_SERVICE"}:
        yield "capabilities", "must drop ALL and add at most NET_BIND_SERVICE"


def _texts(value: Mapping[str, Any], pattern: re.Pattern[str]) -> Iterator[Wrong]:
    for name, text in value.items():
        if not _QUALIFIED.fullmatch(name):
            yield step(name), "is no valid key", _REFUSED, ""
        elif not isinstance(text, str) or not pattern.fullmatch(text):
            yield step(name), f"must be text that Kubernetes takes here, not {text!r}", _REFUSED, ""


def _node_selector(value: Mapping[str, Any]) -> Iterator[Wrong]:
    yield from _texts(value, _LABEL_VALUE)


def _pod_labels(value: Mapping[str, Any]) -> Iterator[Wrong]:
    yield from _texts(value, _LABEL_VALUE)
    effect = "Deployments, budgets and network policies find their pods by it"
    for name in sorted(OUR_LABELS & set(value)):
        yield step(name), "is set by the stack itself", effect, ""


def _pod_annotations(value: Mapping[str, Any]) -> Iterator[Wrong]:
    yield from _texts(value, re.compile(r"(?s).*"))
    for name in value:
        if name == OUR_ANNOTATIONS or name.startswith(f"{contract.GROUP}/"):
            effect = "the scaler marks with it which worker is to leave"
            yield step(name), "is set by the stack or its scaler", effect, ""


def _tolerations(value: list[Any]) -> Iterator[Wrong]:
    yield from _no_object(value)
    for path, entry in _objects(value):
        operator = entry.get("operator", "Equal")
        if operator not in ("Equal", "Exists"):
            yield f"{path}.operator", f"must be Equal or Exists, not {operator!r}", _REFUSED, "Exists"
        elif operator == "Exists" and entry.get("value"):
            yield f"{path}.value", "has no meaning with operator Exists", _REFUSED, ""
        effects = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        if entry.get("effect", "") not in effects:
            wrong = f"must be one of {', '.join(effects[1:])}, not {entry['effect']!r}"
            yield f"{path}.effect", wrong, _REFUSED, "NoSchedule"


def _affinity(value: Mapping[str, Any]) -> Iterator[Wrong]:
    known = ("nodeAffinity", "podAffinity", "podAntiAffinity")
    for name, rules in value.items():
        if name not in known:
            wrong = f"there is no such member; there are {', '.join(known)}"
            yield step(name), wrong, "nothing would read it", ""
        elif not isinstance(rules, dict):
            yield step(name), f"must be an object, not {rules!r}", _REFUSED, ""


def _spread(value: list[Any]) -> Iterator[Wrong]:
    yield from _no_object(value)
    for path, entry in _objects(value):
        if type(entry.get("maxSkew")) is not int or entry["maxSkew"] < 1:
            wrong = f"must be a whole number from 1, not {entry.get('maxSkew')!r}"
            yield f"{path}.maxSkew", wrong, _REFUSED, "1"
        if not isinstance(entry.get("topologyKey"), str):
            example = "topology.kubernetes.io/zone"
            yield f"{path}.topologyKey", "must be the label of a node", _REFUSED, example
        if entry.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway"):
            wrong = "must be DoNotSchedule or ScheduleAnyway"
            yield f"{path}.whenUnsatisfiable", wrong, _REFUSED, "ScheduleAnyway"


def _peers(value: list[Any]) -> Iterator[Wrong]:
    yield from _no_object(value)
    for path, entry in _objects(value):
        known = {"namespaceSelector", "podSelector", "ipBlock"}
        for name in sorted(set(entry) - known):
            yield f"{path}{step(name)}", "there is no such member", _REFUSED, ""
        if not set(entry) & known:
            wrong = "must have a namespaceSelector, a podSelector or an ipBlock"
            yield path, wrong, "the API server would refuse the policy", ""
        elif "ipBlock" in entry and len(set(entry) & known) > 1:
            yield f"{path}.ipBlock", "stands alone or not at all", _REFUSED, ""


def _egress(value: list[Any]) -> Iterator[Wrong]:
    yield from _no_object(value)
    for path, entry in _objects(value):
        for name in sorted(set(entry) - {"to", "ports"}):
            yield f"{path}{step(name)}", "there is no such member; there are to and ports", _REFUSED, ""
        peers = entry.get("to", [])
        if not isinstance(peers, list):
            yield f"{path}.to", f"must be a list, not {peers!r}", _REFUSED, ""
        else:
            yield from ((f"{path}.to{at}", wrong, why, cure) for at, wrong, why, cure in _peers(peers))


def _ports(value: list[Any]) -> Iterator[Wrong]:
    for number, port in enumerate(value):
        if type(port) is not int or not 0 < port < 65536:
            yield f"[{number}]", f"must be a port from 1 to 65535, not {port!r}", _REFUSED, "6443"


def _content(value: list[Any]) -> Iterator[Wrong]:
    for number, name in enumerate(value):
        if not isinstance(name, str) or not name:
            wrong = f"must be a content type or a serializer's name, not {name!r}"
            yield f"[{number}]", wrong, "the workers would stop at their start", "json"


POD_SHAPES: Final[Mapping[str, Callable[[Any], Iterator[Wrong]]]] = {
    "volumes": _volumes,
    "volumeMounts": _volume_mounts,
    "initContainers": _init_containers,
    "nodeSelector": _node_selector,
    "tolerations": _tolerations,
    "affinity": _affinity,
    "topologySpreadConstraints": _spread,
    "podAnnotations": _pod_annotations,
    "podLabels": _pod_labels,
    "acceptContent": _content,
    "brokerClients": _peers,
    "scalerClients": _peers,
    "flowerClients": _peers,
    "workerEgress": _egress,
    "apiServerPorts": _ports,
}
