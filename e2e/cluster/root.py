"""Makes the root of a node: a Debian root, kind's own files out of its Go module, our changes, our programs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from e2e.cluster import node
from e2e.cluster.command import Progress, capture
from e2e.cluster.debian import ensure_root
from e2e.cluster.golang import module_folder
from e2e.cluster.versions import KIND_MODULE, NODE_PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from e2e.cluster.home import Home

_PROGRAM_FOLDERS: Final = ("usr/local/bin", "kind/bin")
"""Folders of kind's files that hold programs; Go's module cache keeps no modes."""


def ensure_node_root(home: Home, programs: Mapping[str, Path], pause: str, progress: Progress) -> Path:
    """Return the folder of a node's root; what is written over a root from before is the same each time."""
    root = home.parts / "node-root"
    ensure_root(root, node.PACKAGES, log=home.build_logs / "debootstrap-node.log", progress=progress)
    base = module_folder(KIND_MODULE) / "images" / "base" / "files"
    _copy_files(base, root)
    for pattern in node.UNWANTED_UNITS:
        for unit in root.glob(pattern):
            unit.unlink()
    for name, target in node.LINKS.items():
        _link(root / name, target)
    written = node.root_files(
        pause,
        (base / "etc/containerd/config.toml").read_text(),
        (base / "etc/systemd/system/containerd.service").read_text(),
        capture(["chroot", str(root), "/usr/bin/ctr", "oci", "spec"], timeout_s=60),
    )
    for name, text in written.items():
        _write(root / name, text)
    _write(root / "etc/systemd/journald.conf.d/headrace.conf", node.JOURNAL)
    (root / "etc/kubernetes/manifests").mkdir(parents=True, exist_ok=True)
    for name in NODE_PROGRAMS:
        shutil.copy2(programs[name], root / "usr/bin" / name)
    return root


def ensure_proxy_root(home: Home, binary: Path, progress: Progress) -> Path:
    """Return the folder of the root of kube-proxy's image: it calls iptables, so a program alone is not enough."""
    root = home.parts / "proxy-root"
    ensure_root(root, node.PROXY_PACKAGES, log=home.build_logs / "debootstrap-proxy.log", progress=progress)
    shutil.copy2(binary, root / "usr/local/bin/kube-proxy")
    return root


def _copy_files(source: Path, root: Path) -> None:
    for file in source.rglob("*"):
        if file.is_dir():
            continue
        name = file.relative_to(source)
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.chmod(0o755 if str(name.parent) in _PROGRAM_FOLDERS else 0o644)


def _link(place: Path, target: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
