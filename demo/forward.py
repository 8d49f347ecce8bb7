"""Owns the way to a Service that is reached from inside the cluster only: `kubectl port-forward`."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from demo.cluster import Cluster
from demo.commands import DemoError

READY_SECONDS = 20


@contextmanager
def forwarded(cluster: Cluster, namespace: str, service: str, port: int) -> Iterator[str]:
    """The Service's address on this machine, without a slash at its end, as long as the context lasts."""
    words = [*cluster.kubectl_words(), f"--namespace={namespace}", "port-forward", f"service/{service}"]
    process = subprocess.Popen(
        [*words, f":{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # A line that never comes must not hold whoever waits for it.
    patience = threading.Timer(READY_SECONDS, process.kill)
    patience.start()
    output = cast(IO[str], process.stdout)
    try:
        said = output.readline()
        patience.cancel()
        found = re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", said)
        if found is None:
            raise DemoError(
                f"no way to service {service}: {said.strip() or 'kubectl port-forward says nothing'}"
            )
        # Whatever it says from now on must be read, or it stops when the pipe is full.
        rest = threading.Thread(target=output.read, daemon=True)
        rest.start()
        try:
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()
            rest.join()
    finally:
        patience.cancel()
        process.kill()
        process.wait()
        output.close()
