"""`python -m e2e.images [load]`: builds this working tree's images with the running cluster's engine."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.errors import ClusterError
from e2e.cluster.home import user_home
from e2e.cluster.kind import KindCluster
from e2e.images.build import ensure_images
from e2e.images.load import load_images

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m e2e.images", description="Headrace's images for a test cluster.")
    parser.add_argument("command", choices=("build", "load"))
    parser.add_argument("--accelerator", choices=("cpu", "nvidia"), default="cpu", help="default: cpu, a small worker")
    options = parser.parse_args(arguments)
    home = user_home(os.environ, Path.home())
    cluster = KindCluster(home, _tell)
    try:
        images = ensure_images(home, cluster.engine(), _tell, accelerator=options.accelerator)
        if options.command == "load":
            load_images(cluster, astuple(images))
        print("\n".join(astuple(images)))
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
