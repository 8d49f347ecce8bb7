"""Owns the root file systems that our images stand on where no registry can be reached.

Made from Debian packages by mmdebstrap, unpacked only: no maintainer script runs, so neither dpkg
nor perl has to be inside, and the few things such scripts would have made (the certificate
bundle, the linker's cache, users) are made here. BusyBox is the shell and the small tools.
It refuses to know Dockerfiles and image names: `images` turns a recipe into an image. The servers'
recipes are in `servers`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .commands import run
from .places import key_of

SUITE = "trixie"

# The suite's Python is 3.13, the release of the public image that our Dockerfiles name.
RUN_PACKAGES = ("python3", "busybox", "libc-bin", "base-files", "netbase", "tzdata", "ca-certificates")
BUILD_PACKAGES = (*RUN_PACKAGES, "python3-pip", "python3-venv")
COMMON_PACKAGES = ("busybox", "libc-bin", "base-files", "tzdata")
"""Of an image without Python."""

# Came along as dependencies of packages whose scripts never run, or are read by nobody at run time.
UNNEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/perl5",
    "usr/share/pixmaps",
    "usr/share/applications",
    "usr/share/bash-completion",
    "usr/lib/*/gconv",
    "usr/lib/*/perl-base",
    "usr/lib/*/libdb-5.3.so",
    "usr/lib/*/libmvec.so.1",
    "usr/lib/systemd",
    "usr/lib/tmpfiles.d",
    "usr/lib/sysusers.d",
    "usr/lib/python3*/test",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/pydoc_data",
    "usr/lib/python3*/lib-dynload/_test*",
    "usr/lib/python3*/EXTERNALLY-MANAGED",
    "usr/bin/dpkg*",
    "usr/bin/perl*",
    "usr/bin/openssl",
    "usr/bin/tar",
    "usr/bin/localedef",
    "usr/bin/mawk",
    "usr/bin/redis-benchmark",
    "usr/sbin/dpkg*",
    "etc/init.d",
    "etc/cron*",
    "etc/logrotate.d",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    name: str
    packages: tuple[str, ...]
    usual: str
    prepare: Callable[[Path], None]
    """Of the file system at that path, what maintainer scripts would have made."""
    settings: str = 'CMD ["python3"]\n'
    """What follows in the image's Dockerfile."""
    user: str = "app"
    """Name of user 999."""
    unneeded: tuple[str, ...] = ()
    """Patterns beside UNNEEDED."""
    sources: tuple[Path, ...] = ()
    """Files that say how, beside this one."""

    @property
    def key(self) -> str:
        texts = (self.name, SUITE, *self.packages, *self.unneeded, self.settings)
        return key_of(*texts, Path(__file__), *self.sources)


def _prepare_python(root: Path) -> None:
    # A container's root file system is read-only and cannot keep what would be compiled at each
    # start. Debian's own script compiles without checking time stamps too.
    library = next((root / "usr/lib").glob("python3.*")).relative_to(root)
    compiled = [f"/{library}", "/usr/lib/python3/dist-packages"]
    run(["chroot", root, "/usr/bin/python3", "-m", "compileall", "-q", *compiled])


PYTHON_RUN = Recipe(name="python-run", packages=RUN_PACKAGES, usual="20 s", prepare=_prepare_python)
PYTHON_BUILD = Recipe(name="python-build", packages=BUILD_PACKAGES, usual="30 s", prepare=_prepare_python)


def make_context(recipe: Recipe, folder: Path) -> None:
    """A Dockerfile and the file system it adds, in an empty folder."""
    root = folder / "root"
    include = f"--include={','.join(recipe.packages)}"
    run(["mmdebstrap", "--variant=extract", "--format=directory", include, SUITE, root])
    _write_certificates(root)
    for path in _matching(root, (*UNNEEDED, *recipe.unneeded)):
        _remove(path)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n"
        f"{recipe.user}:x:999:999::/:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\n{recipe.user}:x:999:\nnogroup:x:65534:\n")
    run(["chroot", root, "/usr/bin/busybox", "--install", "-s", "/usr/bin"])
    run(["chroot", root, "/usr/sbin/ldconfig"])
    recipe.prepare(root)
    # As an archive, since COPY would give every file to root.
    run(["tar", "--numeric-owner", "-C", root, "-cf", folder / "root.tar", "."])
    shutil.rmtree(root)
    (folder / "Dockerfile").write_text(f"FROM scratch\nADD root.tar /\n{recipe.settings}")


def _write_certificates(root: Path) -> None:
    sources = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    if sources:
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.write_text("".join(source.read_text() for source in sources))


def _matching(root: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from root.glob(pattern)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
