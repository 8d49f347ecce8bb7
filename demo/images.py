"""Owns the building of our three images from their Dockerfiles, by whichever builder is there.

`python -m demo.images --registry R [--tag T] [--push]` is `make images`: Docker, else buildah, on
the public base image. A demo builds under a tag made of the sources' content, so that unchanged
sources build and load nothing and changed ones are a new image to Kubernetes too. On devcluster
the images stand on bases that `tests.devcluster` makes, since it has no registry to pull from.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo.cluster import Cluster
from demo.commands import DemoError, run, say
from demo.environment import ROOT

SAMPLE_APP = "celery-fleet-sample-app"
FOLDERS = {
    "celery-fleet-scaler": ROOT / "scaler",
    "celery-fleet-flower": ROOT / "flower",
    SAMPLE_APP: ROOT / "sample_app",
}
"""Name of each image, as `infra` asks for it, and the folder of its sources and its Dockerfile."""

BUILD_SECONDS = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    registry: str
    tag: str
    servers: Mapping[str, str] = field(default_factory=dict)
    """Images of the servers by the stack's setting; empty where its defaults can be pulled."""

    @property
    def settings(self) -> dict[str, str]:
        """Of a stack that runs these."""
        return {
            "imageRegistry": self.registry,
            "imageTag": self.tag,
            "image": f"{self.registry}/{SAMPLE_APP}:{self.tag}",
            **self.servers,
        }


def build_and_load(cluster: Cluster, registry: str, servers: Collection[str] = ("redis",)) -> Built:
    """`registry` is for a cluster that pulls; the others get their images into the node. `servers` are those
    that the stack runs, of redis, rabbitmq and postgresql."""
    tag = content_tag()
    if cluster.maker == "you":
        if not registry:
            raise DemoError(
                f"The cluster of {cluster.context} pulls its images from a registry, and DEMO_REGISTRY names "
                "none: DEMO_REGISTRY=host/folder make demo"
            )
        build(registry, tag, push=True)
        return Built(registry=registry, tag=tag)
    if cluster.maker == "kind":
        build("localhost", tag, push=False)
        cluster.load([f"localhost/{name}:{tag}" for name in FOLDERS])
        return Built(registry="localhost", tag=tag)
    return _on_devcluster(cluster, tag, servers)


def build(registry: str, tag: str, *, push: bool) -> list[str]:
    """The names of the images, built on the public base with Docker or buildah."""
    builder = _builder()
    names = []
    for name, folder in FOLDERS.items():
        image = f"{registry}/{name}:{tag}"
        say(f"Building {image} with {builder}: about 1 min, seconds if unchanged")
        words: list[str | Path] = [builder, "build", "--tag", image, "--file", folder / "Dockerfile", ROOT]
        run(words, timeout_seconds=BUILD_SECONDS)
        if push:
            say(f"Pushing {image}")
            run([builder, "push", image], timeout_seconds=BUILD_SECONDS)
        names.append(image)
    return names


def content_tag() -> str:
    """12 hex digits that change when any file of any of the images' folders does."""
    digest = hashlib.sha256()
    for folder in FOLDERS.values():
        for path in sorted(_sources(folder)):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(ROOT)}:{len(content)}:".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _on_devcluster(cluster: Cluster, tag: str, wanted: Collection[str]) -> Built:
    from tests.devcluster import images as store
    from tests.devcluster.commands import DevclusterError
    from tests.devcluster.servers import SERVERS

    say(f"Images: scaler, Flower and sample application, {tag}: 1 min the first time, 10 s if unchanged.")
    names = []
    try:
        servers = {f"{one.name}Image": store.base(one) for one in SERVERS if one.name in wanted}
        for name, folder in FOLDERS.items():
            image = f"localhost/{name}:{tag}"
            store.build(ROOT, image, dockerfile=folder / "Dockerfile")
            names.append(image)
    except DevclusterError as trouble:
        raise DemoError(str(trouble)) from trouble
    cluster.load([*servers.values(), *names])
    return Built(registry="localhost", tag=tag, servers=servers)


def _builder() -> str:
    if shutil.which("docker") is not None:
        try:
            run(["docker", "info"], timeout_seconds=30)
        except DemoError:
            say("Docker is installed and its engine does not answer; looking for buildah.")
        else:
            return "docker"
    if shutil.which("buildah") is None:
        raise DemoError("Neither a Docker engine nor buildah is there: apt-get install buildah")
    return "buildah"


def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.images")
    parser.add_argument("--registry", required=True)
    parser.add_argument("--tag", default="")
    parser.add_argument("--push", action="store_true")
    arguments = parser.parse_args()
    if not arguments.registry:
        print("Where to? make images REGISTRY=registry.example.com/team [TAG=…] [PUSH=1]", file=sys.stderr)
        return 2
    try:
        tag = arguments.tag or _version()
        print("\n".join(build(arguments.registry, tag, push=arguments.push)))
    except DemoError as trouble:
        print(f"images: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
