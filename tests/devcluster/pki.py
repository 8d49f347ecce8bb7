"""Owns the cluster's certificates: who signs, who they name, how they are made.

Every client and server verifies for real, as in a cluster of the wild, so certificate trouble
shows here and not in production. Made once per cluster with openssl, with random keys; `down`
throws them away. What uses them is said in `configuration`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .commands import run
from .network import API_SERVICE_ADDRESS, NODE_ADDRESS
from .places import State, made_once

NODE_NAME = "devcluster"
DAYS = "3650"

# Kubernetes reads the user from CN and the groups from O.
CLIENTS: Mapping[str, tuple[str, str | None]] = {
    "admin": ("devcluster-admin", "system:masters"),
    "apiserver-kubelet": ("devcluster-apiserver", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "coredns": ("devcluster-dns", None),
    "volume-provisioner": ("devcluster-volumes", None),
}
SERVER_NAMES = (
    f"IP:{NODE_ADDRESS}",
    f"IP:{API_SERVICE_ADDRESS}",
    "IP:127.0.0.1",
    "DNS:localhost",
    f"DNS:{NODE_NAME}",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
)

# Python 3.13 verifies strictly (VERIFY_X509_STRICT) and wants key identifiers and key usages.
AUTHORITY = """
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
"""
LEAF = """
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: Path
    key: Path


def pair(state: State, name: str) -> Pair:
    return Pair(state.pki / f"{name}.crt", state.pki / f"{name}.key")


def ensure(state: State) -> None:
    made_once(state.pki, _make_all)


def _make_all(folder: Path) -> None:
    folder.chmod(0o700)
    certificate(folder, "ca", "devcluster-ca", None, AUTHORITY, signer=None)
    certificate(folder, "front-proxy-ca", "devcluster-front-proxy-ca", None, AUTHORITY, None)
    client = f"{LEAF}extendedKeyUsage=clientAuth\n"
    certificate(folder, "front-proxy", "front-proxy-client", None, client, "front-proxy-ca")
    server = f"{LEAF}extendedKeyUsage=serverAuth\nsubjectAltName={','.join(SERVER_NAMES)}\n"
    certificate(folder, "server", "kube-apiserver", None, server, "ca")
    for name, (user, group) in CLIENTS.items():
        certificate(folder, name, user, group, client, "ca")
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    private, public = folder / "service-account.key", folder / "service-account.pub"
    run(["openssl", "genpkey", *curve, "-out", private])
    run(["openssl", "pkey", "-in", private, "-pubout", "-out", public])


def certificate(
    folder: Path, name: str, user: str, group: str | None, extensions: str, signer: str | None
) -> None:
    organisation = f"O={group}\n" if group else ""
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(
            "[req]\nprompt=no\ndistinguished_name=subject\nx509_extensions=extensions\n"
            f"[subject]\n{organisation}CN={user}\n[extensions]{extensions}"
        )
        config.flush()
        argv: list[str | Path] = ["openssl", "req", "-x509", "-nodes", "-sha256", "-days", DAYS]
        argv += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        argv += ["-config", config.name]
        argv += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
        if signer is not None:
            argv += ["-CA", folder / f"{signer}.crt", "-CAkey", folder / f"{signer}.key"]
        run(argv)
