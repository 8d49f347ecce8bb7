"""Owns the cluster's addresses and what of them lives in the machine's kernel.

The node and the API server share one address on a bridge that has no ports: an address of the
machine's own network may change, and a `dummy` device is missing from some kernels. Pods hang on
routed veth pairs (CNI `ptp`), so no bridge filtering is needed for Services to work.
It refuses to start where an address is already taken, and removes only rules that it can tell
from everybody else's.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from pathlib import Path

from .commands import DevclusterError, run, succeeds

BRIDGE = "devcluster0"
NODE_NETWORK = "10.245.0.0/24"
NODE_ADDRESS = "10.245.0.1"
POD_NETWORK = "10.244.0.0/16"
POD_SUBNET = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
API_PORT = 6443
DNS_PORT = 10053
"""Not 53, which a resolver of the user's may hold on every address; the Service maps it."""

POD_NETWORK_NAME = "celery-fleet-devcluster"
RULE_COMMENT = POD_NETWORK_NAME
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def is_ready() -> bool:
    is_forwarding = FORWARDING.read_text().strip() == "1"
    return (
        is_forwarding and _bridge_has_address() and all(succeeds(_rule("-C", side)) for side in ("-s", "-d"))
    )


def ensure() -> None:
    _refuse_taken_addresses()
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{NODE_ADDRESS}/24", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    FORWARDING.write_text("1")
    # A Docker engine sets the policy of FORWARD to DROP; these two come before it.
    for side in ("-s", "-d"):
        if not succeeds(_rule("-C", side)):
            run(_rule("-I", side))


def remove() -> None:
    """The bridge and the rules. Forwarding stays on: who else relies on it is unknown."""
    for side in ("-s", "-d"):
        while succeeds(_rule("-C", side)):
            run(_rule("-D", side))
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        run(["ip", "link", "delete", BRIDGE])


def remove_service_chains() -> None:
    """What kube-proxy and the kubelet made, as long as no other Kubernetes lives in this network."""
    if _is_another_kubernetes_here():
        return
    _remove_chains(lambda rule: re.findall(r"-j (KUBE-\S+)", rule), prefix="KUBE-")


def remove_pod_chains() -> None:
    """The address translation of pods that went without the container runtime's help.

    The plugins write the network's name into the comments of their rules.
    """
    name = re.escape(POD_NETWORK_NAME)
    pattern = re.compile(rf'--comment "(?:dnat )?name: \\"{name}\\".* -j (CNI-(?:DN-)?[0-9a-f]+)')
    _remove_chains(pattern.findall)


def _remove_chains(chains_of: Callable[[str], list[str]], *, prefix: str | None = None) -> None:
    """All chains that these rules jump to (or that are named so), with the rules themselves."""
    for table in ("filter", "nat", "mangle"):
        saved = run(["iptables-save", "-t", table]).splitlines()
        rules = [line for line in saved if line.startswith("-A ")]
        chains = {chain for rule in rules for chain in chains_of(rule)}
        if prefix is not None:
            chains |= {line.split()[0][1:] for line in saved if line.startswith(f":{prefix}")}
        if not chains:
            continue
        # Rules inside the chains go with the flush.
        jumps = [rule for rule in rules if set(chains_of(rule)) and rule.split()[1] not in chains]
        script = [f"*{table}", *(f"-D {rule[3:]}" for rule in jumps)]
        script += [f"-F {chain}" for chain in chains] + [f"-X {chain}" for chain in chains]
        run(["iptables-restore", "--noflush"], stdin="\n".join([*script, "COMMIT", ""]))


def _is_another_kubernetes_here() -> bool:
    here = Path("/proc/self/ns/net").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name = (entry / "comm").read_text().strip()
            if name in ("kubelet", "kube-proxy", "k3s-server") and (entry / "ns/net").readlink() == here:
                return True
        except OSError:
            # It ended while we looked.
            continue
    return False


def _rule(action: str, side: str) -> list[str]:
    comment = ["-m", "comment", "--comment", RULE_COMMENT]
    return ["iptables", "-w", action, "FORWARD", side, POD_NETWORK, *comment, "-j", "ACCEPT"]


def _bridge_has_address() -> bool:
    return any(device == BRIDGE and str(address.ip) == NODE_ADDRESS for device, address in _addresses())


def _addresses() -> list[tuple[str, ipaddress.IPv4Interface]]:
    listed = json.loads(run(["ip", "-json", "-4", "address", "show"]))
    return [
        (link["ifname"], ipaddress.IPv4Interface(f"{entry['local']}/{entry['prefixlen']}"))
        for link in listed
        for entry in link["addr_info"]
    ]


def _refuse_taken_addresses() -> None:
    wanted = [ipaddress.IPv4Network(text) for text in (NODE_NETWORK, POD_NETWORK, SERVICE_NETWORK)]
    for device, address in _addresses():
        # A pod's veth carries the gateway of the pod subnet with a full-length prefix.
        if device == BRIDGE or (device.startswith("veth") and address.network.prefixlen == 32):
            continue
        for network in wanted:
            if address.network.overlaps(network):
                raise DevclusterError(
                    f"{device} has {address}, inside {network}, which devcluster uses for itself: "
                    "packets would go to the wrong place. Remove that address or change the "
                    f"networks at the top of {Path(__file__).name}"
                )
