"""`python -m e2e.cluster up|down|status|load|build`: what the Makefile's targets call."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.api import ApiCluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.existing import ExistingCluster
from e2e.cluster.golang import ensure_programs
from e2e.cluster.home import user_home
from e2e.cluster.kind import KindCluster
from e2e.cluster.state import read_state
from e2e.cluster.versions import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.cluster.base import Cluster


PROVIDERS: Final = ("kind", "api", "existing")
DEFAULT_PROVIDER: Final = "kind"


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "build":
            ensure_programs(user_home(os.environ, Path.home()), options.names, _tell)
            return 0
        running = read_state(user_home(os.environ, Path.home()).state)
        provider = choose_provider(options.command, options.provider, running.provider if running else None)
        cluster = open_cluster(provider)
        if options.command == "load":
            cluster.load(*options.images)
            return 0
        return _COMMANDS[options.command](cluster)
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def choose_provider(command: str, asked: str | None, running: str | None) -> str:
    """Return the provider to use: the one asked for, else the one that runs; `up` without a wish is kind."""
    if asked is not None:
        return asked
    return DEFAULT_PROVIDER if running is None or command == "up" else running


def open_cluster(provider: str) -> Cluster:
    """Return this user's cluster of a provider, running or not."""
    home = user_home(os.environ, Path.home())
    if provider == "existing":
        return ExistingCluster(os.environ)
    return ApiCluster(home, _tell) if provider == "api" else KindCluster(home, _tell)


def _up(cluster: Cluster) -> int:
    cluster.up()
    print(f"The cluster is ready. To use it:\n  export KUBECONFIG={cluster.kubeconfig}\n  {cluster.kubectl} get nodes")
    return 0


def _down(cluster: Cluster) -> int:
    cluster.down()
    return 0


def _status(cluster: Cluster) -> int:
    status = cluster.status()
    print(f"{status.provider}: {'ready' if status.running else 'not running'}, KUBECONFIG={status.kubeconfig}")
    for line in status.lines:
        print(f"  {line}")
    return 0 if status.running else 3


_COMMANDS = {"up": _up, "down": _down, "status": _status}


def _tell(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A Kubernetes to test on.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "give a cluster"), ("down", "take it away"), ("status", "say what runs")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--provider", choices=PROVIDERS, help="default: kind, or what runs")
    load = commands.add_parser("load", help="bring images of the container engine to the nodes")
    load.add_argument("images", nargs="+", metavar="IMAGE")
    load.add_argument("--provider", choices=PROVIDERS, help="default: what runs")
    build = commands.add_parser("build", help="build programs into the cache")
    build.add_argument("names", nargs="+", choices=sorted(PROGRAMS), metavar="NAME", help=", ".join(sorted(PROGRAMS)))
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
