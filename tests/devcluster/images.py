"""Owns the making of images without a daemon (buildah), and bringing them into the node.

buildah rather than a Docker engine: a Debian package without a process to own, the same
Dockerfiles, and layers cached in our own store. `build` hands every Dockerfile two bases of ours:

    ARG BUILD_BASE=docker.io/library/python:3.13-slim-trixie
    ARG BASE=docker.io/library/python:3.13-slim-trixie
    FROM ${BUILD_BASE} AS build
    COPY requirements.txt /tmp/requirements.txt
    RUN python3 -m pip install --no-cache-dir --target /opt/site -r /tmp/requirements.txt
    FROM ${BASE}
    COPY --from=build /opt/site /opt/site
    ENV PYTHONPATH=/opt/app:/opt/site PATH=/opt/site/bin:/usr/local/bin:/usr/bin:/bin
    CMD ["python3", "-m", "thing"]

What makes this work on the public image as well as here: `python3` comes from PATH (the public
image has it in /usr/local/bin, Debian in /usr/bin, so a virtual environment made in one folder
dies in the other); both stages get the same kind of base; the last stage only copies, since its
base has neither pip nor a package manager; users are numbers.

How this machine reaches its package index (pip's settings, its certificates) is mounted while a
build runs and is never part of an image. It refuses to push anywhere.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import node_images, places
from .bases import PYTHON_BUILD, PYTHON_RUN, REDIS, Recipe, make_context
from .commands import DevclusterError, run, say, succeeds
from .packages import FOR_IMAGES, ensure, require_root
from .processes import running

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "find-links", "timeout", "default-timeout")


def build(
    context: Path,
    tag: str,
    *,
    dockerfile: Path | None = None,
    build_args: Mapping[str, str] | None = None,
) -> str:
    """Build `tag` from a folder and return the image's id; unchanged layers come from the store."""
    bases = {"BUILD_BASE": base(PYTHON_BUILD), "BASE": base(PYTHON_RUN)}
    return _build(context, tag, dockerfile or context / "Dockerfile", {**bases, **(build_args or {})})


def load(tag: str) -> None:
    """Make `tag` an image of the node, under exactly this name; nothing to do if it is there."""
    require_root()
    ensure(FOR_IMAGES)
    state = places.state()
    if running(state, "containerd") is None:
        raise DevclusterError("There is no cluster to load into: `python -m tests.devcluster up`")
    identity = image_id(tag)
    if node_images.has_image(state, tag, identity):
        return
    say(f"Loading {tag} into the node: about 5 s per 100 MB")
    with tempfile.TemporaryDirectory(dir=places.cache()) as folder:
        file = Path(folder) / "image.tar"
        archive(tag, file)
        node_images.import_archive(state, file)


def archive(tag: str, path: Path) -> None:
    """`tag` as a file for `docker load`."""
    run([*_buildah(), "push", "--quiet", image_id(tag), f"docker-archive:{path}:{tag}"])


def build_redis() -> str:
    """The name of a Redis image that takes the same arguments as the public one."""
    return base(REDIS)


def base(recipe: Recipe) -> str:
    """The name of the image of a recipe, made if it is not in the store."""
    require_root()
    ensure(FOR_IMAGES)
    name = f"localhost/celery-fleet-{recipe.name}:{recipe.key}"
    with places.locked(f"image-{recipe.name}"):
        if not _is_stored(name):
            say(f"Making the image {recipe.name} from Debian packages: {recipe.usual}")
            with tempfile.TemporaryDirectory(dir=places.cache()) as folder:
                make_context(recipe, Path(folder))
                _build(Path(folder), name, Path(folder) / "Dockerfile", {})
    return name


def image_id(tag: str) -> str:
    if not _is_stored(tag):
        raise DevclusterError(
            f"There is no image {tag} here. Images of ours are made by `make images`, "
            "the bases and Redis by `python -m tests.devcluster build`"
        )
    return run([*_buildah(), "inspect", "--type=image", "--format={{.FromImageID}}", tag]).strip()


def _is_stored(tag: str) -> bool:
    return succeeds([*_buildah(), "inspect", "--type=image", "--format={{.FromImageID}}", tag])


def _build(context: Path, tag: str, dockerfile: Path, build_args: Mapping[str, str]) -> str:
    arguments = [f"--build-arg={name}={value}" for name, value in build_args.items()]
    with tempfile.TemporaryDirectory() as folder:
        mounts = [f"--volume={volume}" for volume in _index_mounts(Path(folder))]
        # chroot: no namespaces, cgroups or network devices, which a sandboxed VM may withhold.
        options = ["--layers", "--isolation=chroot", "--network=host", "--quiet"]
        files = [f"--file={dockerfile}", f"--tag={tag}"]
        run([*_buildah(), "build", *options, *files, *arguments, *mounts, context])
    return image_id(tag)


def _index_mounts(folder: Path) -> list[str]:
    """pip's settings as they hold on this machine, and the certificates that it trusts."""
    if not CERTIFICATES.exists():
        return []
    settings = pip_settings(_listed_by_pip())
    mounts = [f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    settings["cert"] = str(CERTIFICATES)
    wheels = Path(settings.get("find-links", ""))
    if wheels.is_absolute() and wheels.is_dir():
        mounts.append(f"{wheels}:{wheels}:ro")
    else:
        settings.pop("find-links", None)
    lines = [f"{name} = {value}" for name, value in sorted(settings.items())]
    config = folder / "pip.conf"
    # It may carry the password of an index.
    config.touch(mode=0o600)
    config.write_text("\n".join(["[global]", *lines, ""]))
    return [*mounts, f"{config}:/etc/pip.conf:ro"]


def pip_settings(listed: Sequence[str]) -> dict[str, str]:
    """What a build needs of `pip config list`, whose lines are `<file>.<option>='<value>'`."""
    settings = {}
    # Variables win over files, and pip lists them first, as `:env:.<option>`.
    for line in reversed(listed):
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_OPTIONS:
            settings[option] = value.strip("'\"")
    return settings


def _listed_by_pip() -> list[str]:
    try:
        return run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    except DevclusterError:
        # A Python without pip: its variables are all there is.
        variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return [f":env:.{name[4:].lower().replace('_', '-')}={value}" for name, value in variables.items()]


def _buildah() -> list[str | Path]:
    store = places.cache() / "images"
    return [
        "buildah",
        f"--root={store}",
        "--runroot=/run/celery-fleet-images",
        "--storage-driver=overlay",
    ]
