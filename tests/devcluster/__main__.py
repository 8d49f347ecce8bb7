"""The command line: `python -m tests.devcluster up|down|status|load IMAGE...|kubeconfig|build`.

Only words and exit codes live here; what they do is in `cluster`, `teardown` and `images`.
"""

from __future__ import annotations

import argparse
import sys

from . import cluster, images, places, teardown
from .bases import PYTHON_BUILD, PYTHON_RUN
from .commands import DevclusterError, say
from .packages import FOR_THE_CLUSTER, ensure
from .servers import SERVERS
from .toolchain import toolchain


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return _act(arguments)
    except DevclusterError as trouble:
        say(f"devcluster: {trouble}")
        return 1


def _act(arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "up":
            say(f"KUBECONFIG={cluster.up()}")
        case "down":
            teardown.down(keep_state=arguments.keep)
        case "status":
            healthy, lines = cluster.status()
            print("\n".join(lines))
            return 0 if healthy else 1
        case "load":
            for tag in arguments.images:
                images.load(tag)
        case "build":
            ensure(FOR_THE_CLUSTER)
            toolchain()
            print("\n".join(images.base(recipe) for recipe in (PYTHON_RUN, PYTHON_BUILD, *SERVERS)))
        case "kubeconfig":
            path = places.state().kubeconfig
            print(path)
            if not path.exists():
                say("There is no cluster yet: `python -m tests.devcluster up` makes it")
                return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.devcluster",
        description="A real single-node Kubernetes on this machine, without an image registry.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("up", help="bring the cluster up, or mend it; does nothing if all is well")
    down = actions.add_parser("down", help="stop what `up` started and remove its state")
    down.add_argument("--keep", action="store_true", help="keep the state: objects and images")
    actions.add_parser("status", help="one line per component; exit code 1 unless all is well")
    load = actions.add_parser("load", help="bring images from our store into the node")
    load.add_argument("images", nargs="+", metavar="IMAGE")
    actions.add_parser("build", help="build programs and base images ahead; prints the images' names")
    actions.add_parser("kubeconfig", help="print the path of the cluster's own kubeconfig")
    return parser


if __name__ == "__main__":
    sys.exit(main())
