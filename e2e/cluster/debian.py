"""Debian packages: what the machine itself needs, installed by apt-get, and roots of images, made by debootstrap."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import Progress, capture, labour
from e2e.cluster.errors import CommandError, MissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE: Final = "bookworm"

_INSTALL_TIMEOUT_S: Final = 900.0
_BOOTSTRAP_TIMEOUT_S: Final = 1800.0
_UNPACK_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Tool:
    """A program of the machine, and the Debian package that brings it."""

    program: str
    package: str
    reason: str


ENGINE_TOOLS: Final = (
    Tool("dockerd", "docker.io", "kind's nodes are containers"),
    Tool("iptables", "iptables", "the container engine needs it for its networks"),
)
IMAGE_TOOLS: Final = (Tool("debootstrap", "debootstrap", "the node image is made from Debian packages"),)


def ensure_tools(tools: Sequence[Tool], *, log: Path, progress: Progress) -> None:
    """Install by apt-get what the machine lacks; says what and why before it does.

    Raises:
        MissingError: Something is missing, and this is no machine where we may install it.
    """
    missing = [tool for tool in tools if shutil.which(tool.program) is None]
    if not missing:
        return
    wanted = "; ".join(f"{tool.package} ({tool.reason})" for tool in missing)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MissingError(
            f"Missing on this machine: {wanted}. It can be installed here only by root and apt-get; install it "
            "yourself, start Docker so that `docker info` works, or name a cluster of your own by KUBECONFIG and "
            "CLUSTER=existing."
        )
    progress(f"installing Debian packages on this machine: {wanted}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *(tool.package for tool in missing)]
    try:
        _apt(install, log, progress)
    except CommandError:
        _apt(["apt-get", "update"], log, progress)
        _apt(install, log, progress)


def ensure_root(folder: Path, packages: Sequence[str], *, log: Path, progress: Progress) -> None:
    """Make a minimal Debian with `packages` in `folder`, from the mirror that apt of this machine uses; once."""
    if folder.exists():
        return
    listed = capture(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        timeout_s=60,
    )
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    progress(f"making a Debian root with {len(packages)} packages and what they need")
    labour(
        [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            SUITE,
            str(fresh),
            mirror(listed, SUITE),
        ],
        log=log,
        timeout_s=_BOOTSTRAP_TIMEOUT_S,
        progress=progress,
        what="debootstrap",
    )
    fresh.rename(folder)


def unpack(package: str, folder: Path, *, log: Path, progress: Progress) -> None:
    """Put the files of one Debian package, which stays uninstalled, in a folder.

    Raises:
        MissingError: This is no Debian.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise MissingError(
            f"The package {package} is needed and comes from Debian, and this machine has no apt-get; use one that "
            "has, or one that can pull images."
        )
    progress(f"taking {package} from Debian")
    with tempfile.TemporaryDirectory() as place:
        fetch = ["apt-get", "download", package]
        try:
            _apt(fetch, log, progress, folder=Path(place))
        except CommandError:
            _apt(["apt-get", "update"], log, progress)
            _apt(fetch, log, progress, folder=Path(place))
        (archive,) = Path(place).glob("*.deb")
        capture(["dpkg-deb", "--extract", str(archive), str(folder)], timeout_s=_UNPACK_TIMEOUT_S)


def mirror(targets: str, suite: str) -> str:
    """Return the address from which apt takes the main part of a release.

    Args:
        targets: Lines of address, code name and component, as `apt-get indextargets` prints them on request.
        suite: Code name of the release.

    Raises:
        MissingError: apt is not configured for that release.
    """
    for line in targets.splitlines():
        words = line.split()
        if words[1:] == [suite, "main"]:
            return words[0]
    raise MissingError(
        f"apt of this machine has no source for the main part of Debian {suite}, so the node image cannot be built "
        "here; use a machine with that release, or one that can pull kind's node image."
    )


def _apt(arguments: Sequence[str], log: Path, progress: Progress, *, folder: Path | None = None) -> None:
    labour(
        arguments,
        log=log,
        timeout_s=_INSTALL_TIMEOUT_S,
        progress=progress,
        what=" ".join(arguments[:2]),
        folder=folder,
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )
