"""What `make demo` tells of its pages, before the stack is there and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from demo.cluster import Cluster
from demo.story import flower_url, ways_in

NODE = {
    "status": {
        "addresses": [
            {"type": "Hostname", "address": "node"},
            {"type": "InternalIP", "address": "172.18.0.2"},
        ]
    }
}


class FakeCluster:
    """One node, and Services of which one has no port on it."""

    kubeconfig = Path("/demo/kubeconfig")
    context = "kind-celery-fleet"

    def __init__(self, maker: str = "kind") -> None:
        self.maker = maker

    def kubectl_words(self) -> list[str]:
        return ["/demo/bin/kubectl", "--kubeconfig=/demo/kubeconfig"]

    def get(self, *arguments: str) -> Any:
        if arguments == ("nodes",):
            return {"items": [NODE]}
        assert arguments == ("services", "--namespace=celery-fleet-local")
        ports = {"celery-fleet-scaler": {"nodePort": 30808}, "flower": {"nodePort": 30555}, "sample-app": {}}
        return {
            "items": [
                {"metadata": {"name": name}, "spec": {"ports": [{"port": 80, **port}]}}
                for name, port in ports.items()
            ]
        }


def test_the_page_links_to_flower_where_it_will_be() -> None:
    """The very address that is told at the end."""
    cluster = cast(Cluster, FakeCluster())

    assert flower_url(cluster) == "http://172.18.0.2:30555/"
    assert f"Flower                   {flower_url(cluster)}" in ways_in(cluster)


@pytest.mark.parametrize(
    ("maker", "context"),
    [("kind", "--context=kind-celery-fleet "), ("you", "--context=kind-celery-fleet "), ("devcluster", "")],
)
def test_the_ways_in_are_pages_and_commands(maker: str, context: str) -> None:
    here = "--namespace=celery-fleet-local"
    login = '-o go-template=\'{{index .data "basic-auth" | base64decode}}{{"\\n"}}\''

    assert ways_in(cast(Cluster, FakeCluster(maker))) == [
        "see why: the page        http://172.18.0.2:30808/",
        "Flower                   http://172.18.0.2:30555/",
        "",
        "export KUBECONFIG=/demo/kubeconfig PATH=/demo/bin:$PATH",
        f"kubectl {context}get cel {here} --watch      # queue, replicas, limits",
        f"kubectl {context}describe cel {here}         # the decision, with its numbers",
        f"kubectl {context}get secret flower-auth {here} {login}   # Flower's login",
        ".venv/bin/python -m demo watch      # the picture above, again",
    ]
