"""Owns the content of the files that the cluster's programs read at their start.

Pure text: `render` maps each path to what belongs there, `cluster` writes it. Command-line flags
are in `components`, what is stored in the cluster itself (Services, classes, rights) in `addons`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .network import (
    API_PORT,
    DNS_PORT,
    DNS_SERVICE_ADDRESS,
    NODE_ADDRESS,
    POD_NETWORK,
    POD_NETWORK_NAME,
    POD_SUBNET,
)
from .packages import CNI_PLUGINS
from .pause import PAUSE_IMAGE
from .pki import NODE_NAME, pair
from .places import State

CONTEXT = "devcluster"
API_URL = f"https://{NODE_ADDRESS}:{API_PORT}"
VOLUME_CLASS = "devcluster"

# Which process speaks to the API server as whom; every one has a user of its own, so that the
# audit log tells their requests apart.
KUBECONFIG_USERS = (
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "coredns",
    "volume-provisioner",
)


def kubeconfig_of(state: State, user: str) -> Path:
    return state.config / f"{user}.kubeconfig"


def render(state: State) -> Mapping[Path, str]:
    """Every configuration file of the cluster, by path."""
    files = {kubeconfig_of(state, user): kubeconfig(state, user) for user in KUBECONFIG_USERS}
    return files | {
        state.kubeconfig: kubeconfig(state, "admin"),
        state.config / "audit-policy.json": _json(AUDIT_POLICY),
        state.config / "kubelet.json": _json(kubelet(state)),
        state.config / "kube-proxy.json": _json(kube_proxy(state)),
        state.config / "containerd.toml": containerd(state),
        state.config / "Corefile": corefile(state),
        state.cni / "10-devcluster.conflist": _json(cni(state)),
    }


def kubeconfig(state: State, user: str) -> str:
    """Complete in itself, so that it can be copied elsewhere; JSON is valid YAML."""
    own = pair(state, user)
    cluster = {
        "server": API_URL,
        "certificate-authority-data": _base64(pair(state, "ca").certificate),
    }
    credentials = {
        "client-certificate-data": _base64(own.certificate),
        "client-key-data": _base64(own.key),
    }
    return _json(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
            "current-context": CONTEXT,
        }
    )


# Metadata is enough to count requests by user and verb; one line per finished request.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def kubelet(state: State) -> dict[str, Any]:
    server = pair(state, "server")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "healthzBindAddress": NODE_ADDRESS,
        "containerRuntimeEndpoint": f"unix://{state.containerd_socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pair(state, "ca").certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": "cluster.local",
        # The machine's own search domains and name servers have no meaning inside the cluster.
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        # Since Kubernetes 1.35 the kubelet refuses cgroup v1 unless told otherwise.
        "failCgroupV1": False,
        "failSwapOn": False,
        # A sandboxed VM may withhold CAP_SYS_RESOURCE, without which nothing can be lowered.
        "oomScoreAdj": 0,
        "podLogsDir": str(state.log / "pods"),
        "volumePluginDir": str(state.folder / "kubelet" / "volume-plugins"),
        "serializeImagePulls": False,
        # Images cannot be pulled again here, so none may be collected for want of space.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
    }


def kube_proxy(state: State) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig_of(state, "kube-proxy"))},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_NETWORK,
        # The only mode whose NodePorts also answer on 127.0.0.1.
        "mode": "iptables",
        "nodePortAddresses": [f"{NODE_ADDRESS}/32", "127.0.0.0/8"],
        "healthzBindAddress": f"{NODE_ADDRESS}:10256",
        "metricsBindAddress": f"{NODE_ADDRESS}:10249",
        # Connection tracking limits belong to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    }


def containerd(state: State) -> str:
    return f"""\
version = 2
root = "{state.folder}/containerd"
state = "{state.volatile}"

[grpc]
address = "{state.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
# Without CAP_SYS_RESOURCE runc dies with "can't get final child's PID from pipe: EOF".
restrict_oom_score_adj = true
sandbox_image = "{PAUSE_IMAGE}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{state.cni}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def cni(state: State) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        # In the state folder, so that `down` gives every address back.
        "dataDir": str(state.folder / "pod-addresses"),
        "ranges": [[{"subnet": POD_SUBNET}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "0.4.0",
        "name": POD_NETWORK_NAME,
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def corefile(state: State) -> str:
    zones = ("cluster.local", "in-addr.arpa", "ip6.arpa")
    return f"""\
{" ".join(f"{zone}:{DNS_PORT}" for zone in zones)} {{
    bind {NODE_ADDRESS}
    ready {NODE_ADDRESS}:8181
    errors
    cache 5
    kubernetes {" ".join(zones)} {{
        kubeconfig {kubeconfig_of(state, "coredns")} {CONTEXT}
    }}
}}
"""


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
