"""Owns the list of the cluster's processes: with which flags each runs, how to tell it is well.

In the order in which they start; `teardown` goes through it backwards. What the files that the flags
name contain is `configuration`'s business, when anything is started is `cluster`'s.
"""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .configuration import kubeconfig_of
from .network import API_PORT, NODE_ADDRESS, POD_NETWORK, SERVICE_NETWORK
from .pki import NODE_NAME, pair
from .places import State
from .processes import Command
from .toolchain import Toolchain

# Ports of the machine's own loopback that a user's etcd does not use.
ETCD_URL = "http://127.0.0.1:23790"
ETCD_PEER_URL = "http://127.0.0.1:23800"

PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    command: Command
    is_well: Callable[[], bool]
    deadline_seconds: float = 60
    needs_api: bool = False
    """Gives up, or is never well, while the API server does not answer: starts after it."""
    starts: int = 1
    """How often it is started until it is well."""

    @property
    def name(self) -> str:
        return self.command.name


def components(state: State, tools: Toolchain) -> list[Component]:
    https = _verifying(pair(state, "ca").certificate) if state.pki.exists() else None
    return [
        Component(command=_etcd(state, tools), is_well=_answers(f"{ETCD_URL}/health")),
        Component(
            command=_api_server(state, tools),
            is_well=_answers(f"https://{NODE_ADDRESS}:{API_PORT}/readyz", https),
        ),
        Component(
            command=_controllers(state, tools),
            needs_api=True,
            is_well=_answers(f"https://{NODE_ADDRESS}:10257/healthz", https),
        ),
        Component(
            command=_scheduler(state, tools),
            needs_api=True,
            is_well=_answers(f"https://{NODE_ADDRESS}:10259/readyz", https),
        ),
        Component(
            command=Command(
                name="containerd",
                argv=("containerd", "--config", str(state.config / "containerd.toml")),
                reads=(state.config / "containerd.toml",),
            ),
            is_well=_listens(state.containerd_socket),
        ),
        Component(
            command=_kubelet(state, tools),
            needs_api=True,
            # containerd listens a moment before it answers, and a kubelet that comes then gives up.
            starts=5,
            is_well=_answers(f"http://{NODE_ADDRESS}:10248/healthz"),
        ),
        Component(
            command=Command(
                name="kube-proxy",
                argv=(
                    str(tools.kubernetes / "kube-proxy"),
                    f"--config={state.config}/kube-proxy.json",
                ),
                reads=(
                    state.config / "kube-proxy.json",
                    kubeconfig_of(state, "kube-proxy"),
                ),
            ),
            needs_api=True,
            is_well=_answers(f"http://{NODE_ADDRESS}:10256/healthz"),
        ),
        Component(
            command=Command(
                name="coredns",
                argv=(str(tools.dns / "coredns"), "-conf", str(state.config / "Corefile")),
                reads=(state.config / "Corefile", kubeconfig_of(state, "coredns")),
            ),
            needs_api=True,
            is_well=_answers(f"http://{NODE_ADDRESS}:8181/ready"),
        ),
        Component(
            command=Command(
                name="volume-provisioner",
                argv=(
                    str(tools.kubernetes / "volume-provisioner"),
                    f"--kubeconfig={kubeconfig_of(state, 'volume-provisioner')}",
                    f"--directory={state.folder}/volumes",
                    f"--node={NODE_NAME}",
                ),
                reads=(kubeconfig_of(state, "volume-provisioner"),),
            ),
            needs_api=True,
            # It serves nothing; that it runs is all there is to see.
            is_well=lambda: True,
        ),
    ]


def _etcd(state: State, tools: Toolchain) -> Command:
    return Command(
        name="etcd",
        argv=(
            str(tools.etcd / "etcd"),
            f"--data-dir={state.folder}/etcd",
            f"--listen-client-urls={ETCD_URL}",
            f"--advertise-client-urls={ETCD_URL}",
            f"--listen-peer-urls={ETCD_PEER_URL}",
            f"--initial-advertise-peer-urls={ETCD_PEER_URL}",
            f"--initial-cluster=default={ETCD_PEER_URL}",
            "--logger=zap",
            "--log-level=warn",
            # Survives every kill of a process, not a loss of power: worth it for the speed.
            "--unsafe-no-fsync",
        ),
    )


def _api_server(state: State, tools: Toolchain) -> Command:
    authority, server = pair(state, "ca"), pair(state, "server")
    kubelet, aggregator = pair(state, "apiserver-kubelet"), pair(state, "front-proxy")
    service_account = state.pki / "service-account"
    return Command(
        name="kube-apiserver",
        argv=(
            str(tools.kubernetes / "kube-apiserver"),
            f"--etcd-servers={ETCD_URL}",
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--client-ca-file={authority.certificate}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={service_account}.pub",
            f"--service-account-signing-key-file={service_account}.key",
            f"--kubelet-certificate-authority={authority.certificate}",
            f"--kubelet-client-certificate={kubelet.certificate}",
            f"--kubelet-client-key={kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            # What an aggregated API (a metrics adapter) needs.
            f"--requestheader-client-ca-file={pair(state, 'front-proxy-ca').certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={aggregator.certificate}",
            f"--proxy-client-key-file={aggregator.key}",
            "--enable-aggregator-routing",
            f"--audit-policy-file={state.config}/audit-policy.json",
            f"--audit-log-path={state.log}/audit.log",
            "--audit-log-maxsize=100",
            "--audit-log-maxbackup=2",
        ),
        reads=(
            state.config / "audit-policy.json",
            authority.certificate,
            server.certificate,
            service_account.with_suffix(".pub"),
        ),
    )


def _controllers(state: State, tools: Toolchain) -> Command:
    authority, server = pair(state, "ca"), pair(state, "server")
    return Command(
        name="kube-controller-manager",
        argv=(
            str(tools.kubernetes / "kube-controller-manager"),
            f"--kubeconfig={kubeconfig_of(state, 'kube-controller-manager')}",
            f"--bind-address={NODE_ADDRESS}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--root-ca-file={authority.certificate}",
            f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.key}",
            f"--service-account-private-key-file={state.pki}/service-account.key",
            "--use-service-account-credentials",
            "--allocate-node-cidrs",
            f"--cluster-cidr={POD_NETWORK}",
            # Its 20 requests a second stood still for minutes behind a thousand Deployments of a benchmark.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--concurrent-deployment-syncs=20",
            "--leader-elect=false",
        ),
        reads=(kubeconfig_of(state, "kube-controller-manager"),),
    )


def _scheduler(state: State, tools: Toolchain) -> Command:
    server = pair(state, "server")
    return Command(
        name="kube-scheduler",
        argv=(
            str(tools.kubernetes / "kube-scheduler"),
            f"--kubeconfig={kubeconfig_of(state, 'kube-scheduler')}",
            f"--bind-address={NODE_ADDRESS}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            "--leader-elect=false",
        ),
        reads=(kubeconfig_of(state, "kube-scheduler"),),
    )


def _kubelet(state: State, tools: Toolchain) -> Command:
    return Command(
        name="kubelet",
        argv=(
            str(tools.kubernetes / "kubelet"),
            f"--config={state.config}/kubelet.json",
            f"--kubeconfig={kubeconfig_of(state, 'kubelet')}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={state.folder}/kubelet",
        ),
        reads=(state.config / "kubelet.json", kubeconfig_of(state, "kubelet")),
    )


def _verifying(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _answers(url: str, context: ssl.SSLContext | None = None) -> Callable[[], bool]:
    # Never through the proxy that the environment may name: these addresses are this machine's.
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )

    def probe() -> bool:
        try:
            with direct.open(url, timeout=PROBE_SECONDS) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return probe


def _listens(path: Path) -> Callable[[], bool]:
    def probe() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PROBE_SECONDS)
            try:
                client.connect(str(path))
            except OSError:
                return False
        return True

    return probe
