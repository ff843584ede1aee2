"""Builds the node image where none can be pulled, with the control plane's images inside; each part once."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster import node
from e2e.cluster.command import Progress, capture, labour
from e2e.cluster.deadline import wait_until
from e2e.cluster.debian import IMAGE_TOOLS, ensure_tools
from e2e.cluster.errors import CommandError
from e2e.cluster.golang import ensure_programs, ensure_source
from e2e.cluster.root import ensure_node_root, ensure_proxy_root
from e2e.cluster.versions import COREDNS_MODULE, IMAGE_PROGRAMS, KUBERNETES, NODE_PROGRAMS, cache_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2e.cluster.engine import Engine
    from e2e.cluster.home import Home

_TIMEOUT_S: Final = 1200.0
_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"


def node_image() -> str:
    """Return the name of the node image that is built here; another recipe or version gives another name."""
    return f"localhost/headrace-node:{cache_name()}"


def ensure_node_image(home: Home, engine: Engine, progress: Progress) -> str:
    """Return the name of the node image, built first where the engine lacks it: some 20 minutes of CPU, once."""
    if engine.has_image(node_image()):
        return node_image()
    progress("building a node image from Go modules and Debian packages; each part is kept for the next time")
    ensure_tools(IMAGE_TOOLS, log=home.build_logs / "apt.log", progress=progress)
    programs = ensure_programs(home, [*NODE_PROGRAMS, *IMAGE_PROGRAMS], progress)
    programs["pause"] = ensure_source(home, Path(__file__).with_name("pause.go"), progress)
    names = _wanted_images(programs["kubeadm"])
    root = ensure_node_root(home, programs, names["pause"], progress)
    progress(
        f"CoreDNS {COREDNS_MODULE.version} gets the tag of {names['coredns']}, which kubeadm {KUBERNETES} asks for"
    )
    for program, name in names.items():
        if not engine.has_image(name):
            progress(f"making the image {name}")
            _make_control_image(home, engine, programs[program], name=name, progress=progress)
    _make_node_image(home, engine, root, list(names.values()), progress)
    return node_image()


def scratch_archive(files: Mapping[str, tuple[Path, int]]) -> bytes:
    """Return a tar of files owned by root, by their path in the image, each with its mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (source, mode) in files.items():
            content = source.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _wanted_images(kubeadm: Path) -> dict[str, str]:
    wish = [f"--image-repository={node.REPOSITORY}", f"--kubernetes-version={KUBERNETES}"]
    return node.image_names(capture([str(kubeadm), "config", "images", "list", *wish], timeout_s=60))


def _make_control_image(home: Home, engine: Engine, binary: Path, *, name: str, progress: Progress) -> None:
    settings = node.image_settings(binary.name)
    if binary.name == "kube-proxy":
        root = ensure_proxy_root(home, binary, progress)
        import_root(home, engine, root, name=name, settings=settings, progress=progress)
        return
    import_program(home, engine, binary, name=name, bundle=home.parts / "node-root" / _BUNDLE)


def _make_node_image(home: Home, engine: Engine, root: Path, images: Sequence[str], progress: Progress) -> None:
    base = f"{node_image()}-base"
    import_root(home, engine, root, name=base, settings=node.CHANGES, progress=progress)
    archive = home.parts / "images.tar"
    engine.docker("save", "--output", str(archive), *images, timeout_s=_TIMEOUT_S)
    container = engine.docker(
        "run", "--detach", "--privileged", "--network=none", "--entrypoint=/usr/bin/containerd", base
    ).strip()
    try:
        progress("putting the control plane's images into the node image")
        wait_until(lambda: _runs_containerd(engine, container), timeout_s=60, what="containerd did not answer")
        engine.docker("cp", str(archive), f"{container}:/images.tar", timeout_s=_TIMEOUT_S)
        ctr = ("exec", container, "ctr", "--namespace=k8s.io", "images", "import", "--no-unpack", "/images.tar")
        engine.docker(*ctr, timeout_s=_TIMEOUT_S)
        engine.docker("exec", container, "rm", "/images.tar")
        settings = [word for setting in node.CHANGES for word in ("--change", setting)]
        engine.docker("commit", *settings, container, node_image(), timeout_s=_TIMEOUT_S)
    finally:
        engine.docker("rm", "--force", "--volumes", container)
        archive.unlink()


def import_root(
    home: Home, engine: Engine, root: Path, *, name: str, settings: Sequence[str], progress: Progress
) -> None:
    """Make an image of a folder that is a root."""
    archive = home.parts / f"{root.name}.tar"
    labour(
        ["tar", "--numeric-owner", "-C", str(root), "-cf", str(archive), "."],
        log=home.build_logs / "tar.log",
        timeout_s=_TIMEOUT_S,
        progress=progress,
        what=f"packing {root.name}",
    )
    _import_archive(engine, archive, name, settings)


def import_program(home: Home, engine: Engine, binary: Path, *, name: str, bundle: Path = Path("/") / _BUNDLE) -> None:
    """Make an image of one static program and the authorities that it trusts, those of this machine by default."""
    files = {f"usr/local/bin/{binary.name}": (binary, 0o755), _BUNDLE: (bundle, 0o644)}
    import_files(home, engine, files, name=name, settings=node.image_settings(binary.name))


def import_files(
    home: Home, engine: Engine, files: Mapping[str, tuple[Path, int]], *, name: str, settings: Sequence[str]
) -> None:
    """Make an image of nothing but these files, by their path in the image, each with its mode."""
    archive = home.parts / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
    archive.write_bytes(scratch_archive(files))
    _import_archive(engine, archive, name, settings)


def _import_archive(engine: Engine, archive: Path, name: str, settings: Sequence[str]) -> None:
    changes = [word for setting in settings for word in ("--change", setting)]
    engine.docker("import", *changes, str(archive), name, timeout_s=_TIMEOUT_S)
    archive.unlink()


def _runs_containerd(engine: Engine, container: str) -> bool:
    try:
        engine.docker("exec", container, "ctr", "version", timeout_s=15)
    except CommandError:
        return False
    return True
