"""Whether rendered NetworkPolicies let one pod speak to another: networking.k8s.io/v1, evaluated.

The semantics of https://kubernetes.io/docs/concepts/services-networking/network-policies/: policies add up;
a pod that no policy of a direction picks is open in that direction; a connection needs the sender's egress
and the receiver's ingress. Named ports and port ranges are not used here, and refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A pod, or an address outside of the cluster."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "203.0.113.9"

    @property
    def is_pod(self) -> bool:
        return bool(self.namespace)


def allowed(policies: Iterable[Policy], sender: End, receiver: End, port: int, protocol: str = "TCP") -> bool:
    known = list(policies)
    return _open(known, "Egress", "egress", "to", sender, receiver, port, protocol) and _open(
        known, "Ingress", "ingress", "from", receiver, sender, port, protocol
    )


def _open(
    policies: list[Policy],
    direction: str,
    rules: str,
    peers: str,
    owner: End,
    other: End,
    port: int,
    protocol: str,
) -> bool:
    if not owner.is_pod:
        return True
    picking = [policy for policy in policies if _picks(policy, owner, direction)]
    return not picking or any(
        _port_matches(rule, port, protocol) and _peer_matches(rule, peers, policy, other)
        for policy in picking
        for rule in policy["spec"].get(rules) or ()
    )


def _picks(policy: Policy, pod: End, direction: str) -> bool:
    spec = policy["spec"]
    here = policy["metadata"]["namespace"] == pod.namespace
    return here and direction in spec["policyTypes"] and selects(spec["podSelector"], pod.labels)


def _port_matches(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    if not rule.get("ports"):
        return True
    for entry in rule["ports"]:
        if not isinstance(entry.get("port"), int) or "endPort" in entry:
            raise NotImplementedError(f"{entry}: only single ports by number")
        if entry["port"] == port and entry.get("protocol", "TCP") == protocol:
            return True
    return False


def _peer_matches(rule: Mapping[str, Any], peers: str, policy: Policy, other: End) -> bool:
    """An empty or missing list is everybody."""
    if not rule.get(peers):
        return True
    return any(_is_peer(peer, policy["metadata"]["namespace"], other) for peer in rule[peers])


def _is_peer(peer: Mapping[str, Any], namespace: str, other: End) -> bool:
    if "ipBlock" in peer:
        address, block = ipaddress.ip_address(other.address), peer["ipBlock"]
        out = any(address in ipaddress.ip_network(text) for text in block.get("except", ()))
        return address in ipaddress.ip_network(block["cidr"]) and not out
    if not other.is_pod:
        return False
    if "namespaceSelector" in peer:
        there = selects(peer["namespaceSelector"], other.namespace_labels)
    else:
        there = other.namespace == namespace
    return there and selects(peer.get("podSelector", {}), other.labels)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if selector.get("matchExpressions"):
        raise NotImplementedError("matchExpressions are not used here")
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
