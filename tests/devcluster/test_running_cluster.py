"""The running cluster: found, killed, mended, used.

The tests that kill leave the cluster as they found it, and pods that others run keep running.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Kubectl
from tests.devcluster import cluster, images, node_images, places, processes
from tests.devcluster.bases import PYTHON_RUN
from tests.devcluster.commands import run
from tests.devcluster.network import NODE_ADDRESS
from tests.devcluster.pause import PAUSE_IMAGE
from tests.devcluster.servers import REDIS


@pytest.fixture(scope="module")
def devcluster(kubeconfig: Path) -> places.State:
    """The state of the running cluster, where it is ours to kill."""
    if "DEMO_CONTEXT" in os.environ:
        pytest.skip("DEMO_CONTEXT names another cluster, which is not ours to test")
    assert kubeconfig == places.state().kubeconfig
    return places.state()


@pytest.fixture(scope="module")
def python_image(devcluster: places.State) -> str:
    assert devcluster.kubeconfig.exists()
    tag = images.base(PYTHON_RUN)
    images.load(tag)
    return tag


def until(true: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def pod(name: str, image: str, *command: str, claim: str | None = None) -> str:
    """A pod that the strictest Pod Security level admits."""
    container: dict[str, object] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if command:
        container["command"] = list(command)
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else [],
    }
    metadata = {"name": name, "labels": {"app": name}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


@pytest.mark.cluster
class TestCluster:
    @pytest.fixture(autouse=True)
    def strictest_level(self, devcluster: places.State, kubectl: Kubectl, namespace: str) -> None:
        assert devcluster.kubeconfig.exists()
        kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")

    def phase(self, kubectl: Kubectl, namespace: str, name: str) -> str:
        return kubectl("-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}")

    def test_a_second_up_starts_nothing(self, devcluster: places.State) -> None:
        names = [file.stem for file in devcluster.pids.glob("*.json")]
        before = {name: processes.running(devcluster, name) for name in names}
        cluster.up()

        assert {name: processes.running(devcluster, name) for name in names} == before
        assert None not in before.values()

    @pytest.mark.parametrize("victims", [("kube-scheduler",), ("kubelet", "containerd")], ids=" and ".join)
    def test_what_was_killed_comes_back_and_running_pods_never_notice(
        self, devcluster: places.State, kubectl: Kubectl, namespace: str, victims: tuple[str, ...]
    ) -> None:
        kubectl("-n", namespace, "apply", "-f", "-", stdin=pod("witness", PAUSE_IMAGE))
        until(lambda: self.phase(kubectl, namespace, "witness") == "Running", "the witness runs")
        for name in victims:
            record = processes.running(devcluster, name)
            assert record is not None
            os.kill(record.pid, signal.SIGKILL)
        until(lambda: all(processes.running(devcluster, name) is None for name in victims), "they are dead")
        assert cluster.status()[0] is False
        cluster.up()

        healthy, lines = cluster.status()
        assert healthy, lines
        status = json.loads(kubectl("-n", namespace, "get", "pod", "witness", "-o", "json"))["status"]
        assert status["phase"] == "Running"
        assert status["containerStatuses"][0]["restartCount"] == 0
        kubectl("-n", namespace, "apply", "-f", "-", stdin=pod("newcomer", PAUSE_IMAGE))
        until(lambda: self.phase(kubectl, namespace, "newcomer") == "Running", "a new pod runs")

    def test_a_pod_finds_a_service_by_name_and_the_api_server_by_its_certificate(
        self, kubectl: Kubectl, namespace: str, python_image: str
    ) -> None:
        script = (
            "import socket, ssl, urllib.request\n"
            "short = socket.gethostbyname('somewhere')\n"
            f"assert short == socket.gethostbyname('somewhere.{namespace}.svc.cluster.local')\n"
            "folder = '/var/run/secrets/kubernetes.io/serviceaccount'\n"
            "token = open(folder + '/token').read()\n"
            "request = urllib.request.Request('https://kubernetes.default.svc/api')\n"
            "request.add_header('Authorization', 'Bearer ' + token)\n"
            "context = ssl.create_default_context(cafile=folder + '/ca.crt')\n"
            "print(short, urllib.request.urlopen(request, context=context, timeout=10).status)\n"
        )
        kubectl("-n", namespace, "create", "service", "clusterip", "somewhere", "--tcp=80")
        address = kubectl("-n", namespace, "get", "service", "somewhere", "-o", "jsonpath={.spec.clusterIP}")
        resolver = pod("resolver", python_image, "python3", "-c", script)
        # Kubernetes makes the account of a new namespace a moment later than the namespace.
        until(lambda: "default" in kubectl("-n", namespace, "get", "serviceaccounts"), "the account exists")
        kubectl("-n", namespace, "apply", "-f", "-", stdin=resolver)
        until(
            lambda: self.phase(kubectl, namespace, "resolver") in ("Succeeded", "Failed"), "the resolver ends"
        )

        assert kubectl("-n", namespace, "logs", "resolver").split() == [address, "200"]

    def test_a_claim_is_bound_and_writable_by_the_group_of_the_pod(
        self, devcluster: places.State, kubectl: Kubectl, namespace: str, python_image: str
    ) -> None:
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        }
        script = "import os; open('/data/written', 'w').write('x'); print(os.stat('/data/written').st_gid)"
        writer = pod("writer", python_image, "python3", "-c", script, claim="data")
        kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(claim))
        kubectl("-n", namespace, "apply", "-f", "-", stdin=writer)
        until(lambda: self.phase(kubectl, namespace, "writer") in ("Succeeded", "Failed"), "the writer ends")
        volume = kubectl("-n", namespace, "get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")

        assert kubectl("-n", namespace, "logs", "writer").strip() == "999"
        folder = devcluster.folder / "volumes" / volume
        assert (folder / "written").read_text() == "x"
        kubectl("-n", namespace, "delete", "pod/writer", "pvc/data")
        until(lambda: not folder.exists(), "the directory goes with the claim")

    def test_redis_answers_on_the_node_port_of_both_addresses(self, kubectl: Kubectl, namespace: str) -> None:
        image = images.base(REDIS)
        images.load(image)
        kubectl("-n", namespace, "apply", "-f", "-", stdin=pod("redis", image))
        kubectl("-n", namespace, "create", "service", "nodeport", "redis", "--tcp=6379")
        jsonpath = "jsonpath={.spec.ports[0].nodePort}"
        port = int(kubectl("-n", namespace, "get", "service", "redis", "-o", jsonpath))

        def answer(host: str) -> bytes:
            try:
                with socket.create_connection((host, port), timeout=2) as connection:
                    connection.sendall(b"PING\r\n")
                    return connection.recv(100)
            except OSError:
                return b""

        for host in ("127.0.0.1", NODE_ADDRESS):
            until(lambda host=host: answer(host) == b"+PONG\r\n", f"Redis answers on {host}")  # type: ignore[misc]

    def test_the_dockerfile_pattern_works_from_requirements_to_a_running_pod(
        self, devcluster: places.State, kubectl: Kubectl, namespace: str, tmp_path: Path
    ) -> None:
        (tmp_path / "requirements.txt").write_text("itsdangerous==2.2.0\n")
        (tmp_path / "thing.py").write_text("import itsdangerous; print(itsdangerous.__name__)\n")
        (tmp_path / "Dockerfile").write_text(
            "ARG BUILD_BASE=docker.io/library/python:3.13-slim-trixie\n"
            "ARG BASE=docker.io/library/python:3.13-slim-trixie\n"
            "FROM ${BUILD_BASE} AS build\n"
            "COPY requirements.txt /tmp/requirements.txt\n"
            "RUN python3 -m pip install --no-cache-dir --target /opt/site -r /tmp/requirements.txt\n"
            "FROM ${BASE}\n"
            "COPY --from=build /opt/site /opt/site\n"
            "COPY thing.py /opt/app/thing.py\n"
            "ENV PYTHONPATH=/opt/app:/opt/site\n"
            "USER 65532:65532\n"
            'CMD ["python3", "-m", "thing"]\n'
        )
        tag = "localhost/celery-fleet-pattern:test"
        identity = images.build(tmp_path, tag)
        images.load(tag)
        imported = node_images.target_digests(devcluster)[tag]
        # Nothing to do: the archive would otherwise get a new manifest.
        images.load(tag)
        kubectl("-n", namespace, "apply", "-f", "-", stdin=pod("pattern", tag))
        until(
            lambda: self.phase(kubectl, namespace, "pattern") in ("Succeeded", "Failed"), "the pattern ends"
        )

        assert node_images.target_digests(devcluster)[tag] == imported
        assert images.image_id(tag) == identity
        assert kubectl("-n", namespace, "logs", "pattern").strip() == "itsdangerous"

    def test_the_command_line_prints_the_path_and_the_health(self, devcluster: places.State) -> None:
        words = [sys.executable, "-m", "tests.devcluster"]
        assert run([*words, "kubeconfig"]).strip() == str(devcluster.kubeconfig)
        status = subprocess.run([*words, "status"], capture_output=True, text=True, check=False)

        assert status.returncode == 0, status.stdout
        assert status.stdout.splitlines()[-1].split() == ["node", "Ready"]
