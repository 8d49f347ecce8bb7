"""What would disturb everybody else: `down`, and the loss of the machine itself.

Both happen on a "machine" made of namespaces (processes, network, mounts, cgroups), whose end is as
sudden as a power cut. Its cluster shares nothing with the session's but the built programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.devcluster import places

CGROUPS = Path("/sys/fs/cgroup")
GROUP = "celery-fleet-own-machine"
GONE_SECONDS = 30
REPOSITORY = Path(__file__).parents[2]

# cgroup v1: a process enters a group of each hierarchy, and the namespace makes that its root.
ENTER = f"""
for hierarchy in {CGROUPS}/*/; do
    [ -e "$hierarchy/cgroup.sane_behavior" ] || continue
    mkdir -p "$hierarchy/{GROUP}"
    if [ -e "$hierarchy/cpuset.cpus" ]; then
        for item in cpus mems; do cat "$hierarchy/cpuset.$item" > "$hierarchy/{GROUP}/cpuset.$item"; done
    fi
    echo $$ > "$hierarchy/{GROUP}/cgroup.procs"
done
exec unshare --cgroup --mount --net --pid --fork --kill-child --mount-proc --propagation private \
    bash -c "$BOOT"
"""
BOOT = f"""
set -e
hierarchies=$(awk '$3 == "cgroup" {{ print $2 "=" $4 }}' /proc/mounts)
ip link set lo up
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs {CGROUPS}
for entry in $hierarchies; do
    folder=${{entry%%=*}}
    case $entry in
        *name=systemd*) controllers=none,name=systemd ;;
        *) controllers=${{entry##*,}} ;;
    esac
    mkdir -p "$folder"
    mount -t cgroup -o "$controllers" cgroup "$folder"
done
# Of the machine's own cluster: a pod that ends meanwhile takes its mount along.
{{ grep -o ' /run/[^ ]*' /proc/mounts || true; }} | sort -r | xargs -r -n1 umount --lazy --quiet || true
mount -t tmpfs tmpfs /run
set +e
eval "$SCRIPT"
"""

LEFTOVERS = """
import glob, json, os, subprocess
here = os.environ["CELERY_FLEET_CACHE"]
rules = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout.splitlines()
mounts = [line.split()[1] for line in open("/proc/mounts")]
print(json.dumps({
    "processes": [
        name for path in glob.glob("/proc/[0-9]*/comm")
        if (name := open(path).read().strip()) not in ("bash", "python3")
    ],
    "devices": [name for name in os.listdir("/sys/class/net") if name != "lo"],
    "mounts": [one for one in mounts if one.startswith((here, "/run/celery-fleet-devcluster"))],
    "rules": [one for one in rules if "KUBE-" in one or "devcluster" in one],
    "namespaces": os.listdir("/run/netns") if os.path.exists("/run/netns") else [],
    "groups": glob.glob("/sys/fs/cgroup/**/kubepods*", recursive=True),
    "state": glob.glob(here + "/devcluster") + glob.glob("/run/celery-fleet-devcluster"),
}))
"""
NOTHING_LEFT: dict[str, list[str]] = {
    "processes": [],
    "devices": [],
    "mounts": [],
    "rules": [],
    "namespaces": [],
    "groups": [],
    "state": [],
}

UP = """
python3 -m tests.devcluster up
kubectl() { "$CELERY_FLEET_CACHE/bin/kubectl" --kubeconfig="$CELERY_FLEET_CACHE/devcluster/kubeconfig" "$@"; }
"""
RUN_A_POD = """
kubectl run witness --image=localhost/celery-fleet-pause:1 --overrides='{"spec": {"containers": [{
    "name": "witness", "image": "localhost/celery-fleet-pause:1",
    "ports": [{"containerPort": 80, "hostPort": 8099}]}]}}'
kubectl wait pod/witness --for=condition=Ready --timeout=120s
"""
WAIT_FOR_ITS_RESTART = """
kubectl wait pod/witness --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 --timeout=120s
kubectl wait pod/witness --for=condition=Ready --timeout=120s
"""
PRINT_ITS_IDENTITY = """
kubectl get pod witness -o jsonpath='{.metadata.uid}'
"""
DOWN_TWICE = f"""
python3 -m tests.devcluster down
python3 -m tests.devcluster down
python3 -c '{LEFTOVERS}'
"""
KILL_ALL = """
for file in $CELERY_FLEET_CACHE/devcluster/pids/*.json; do
    kill -9 $(grep -o '"pid": [0-9]*' $file | grep -o '[0-9]*')
done
rm -r $CELERY_FLEET_CACHE/devcluster/programs
"""


@dataclass(frozen=True, slots=True)
class Machine:
    cache: Path

    def run(self, script: str) -> str:
        """From switching on to switching off: everything that the script started dies with it."""
        variables = {"BOOT": BOOT, "SCRIPT": script, "CELERY_FLEET_CACHE": str(self.cache)}
        done = subprocess.run(
            ["bash", "-c", ENTER],
            env={**os.environ, **variables},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=420,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def machine(kubeconfig: Path) -> Iterator[Machine]:
    if "DEMO_CONTEXT" in os.environ:
        pytest.skip("DEMO_CONTEXT names another cluster, so devcluster's programs are not built")
    if not (CGROUPS / "memory").is_dir():
        pytest.skip("not tried here: a machine of its own is made of cgroup v1 hierarchies")
    assert kubeconfig.exists()
    # pytest's own folder is too deep for the kubelet: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        (Path(folder) / "programs").symlink_to(places.cache() / "programs")
        yield Machine(Path(folder))
    for root in CGROUPS.glob(f"*/{GROUP}"):
        groups = [root, *(path for path in root.rglob("*") if path.is_dir())]
        for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
            _remove(group)


def _remove(group: Path) -> None:
    """Once the last of the machine's processes is gone: the kernel ends them after their namespace.

    A group that was busy is seen to be gone a moment later, without another call.
    """
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        try:
            return group.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@pytest.mark.cluster
def test_a_cluster_outlives_the_loss_of_its_machine(machine: Machine) -> None:
    before = machine.run(f"{UP}{RUN_A_POD}sync{PRINT_ITS_IDENTITY}")
    after = machine.run(
        f"{UP}{WAIT_FOR_ITS_RESTART}python3 -m tests.devcluster status || exit 1{PRINT_ITS_IDENTITY}"
    )

    assert before.splitlines()[-1] == after.splitlines()[-1]


@pytest.mark.cluster
@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param("", id="in order"),
        pytest.param(KILL_ALL, id="its processes were killed and its programs are gone"),
    ],
)
def test_down_leaves_nothing(machine: Machine, meanwhile: str) -> None:
    printed = machine.run(f"{UP}{RUN_A_POD}{meanwhile}{DOWN_TWICE}")

    assert json.loads(printed.splitlines()[-1]) == NOTHING_LEFT
