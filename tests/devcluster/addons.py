"""Owns the objects that every devcluster contains: the DNS Service, the volume class, two roles.

The DNS server and the volume provisioner are processes of this machine, so the Service has a
hand-made EndpointSlice and the roles are bound to the users of their client certificates.
"""

from __future__ import annotations

import json
from typing import Any

from .configuration import VOLUME_CLASS
from .network import DNS_PORT, DNS_SERVICE_ADDRESS, NODE_ADDRESS


def manifest() -> str:
    items = [_dns_service(), _dns_endpoints(), _volume_class()]
    items += _rights(
        "devcluster-dns",
        [
            _rule("", ["services", "endpoints", "pods", "namespaces"], ["list", "watch"]),
            _rule("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
        ],
    )
    items += _rights(
        "devcluster-volumes",
        [
            _rule("", ["persistentvolumeclaims"], ["list", "watch"]),
            _rule("", ["persistentvolumes"], ["list", "watch", "create", "delete"]),
        ],
    )
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _dns_service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {
            "clusterIP": DNS_SERVICE_ADDRESS,
            "ports": [
                {"name": "dns", "port": 53, "targetPort": DNS_PORT, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "targetPort": DNS_PORT, "protocol": "TCP"},
            ],
        },
    }


def _dns_endpoints() -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-host",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        "ports": [
            {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
        ],
    }


def _volume_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": VOLUME_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        # The same name as in kube/volumes.go.
        "provisioner": "devcluster/directory",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def _rights(user: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": user},
            "rules": rules,
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        },
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
