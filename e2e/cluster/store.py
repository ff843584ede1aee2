"""Images of a node that are kept between clusters, so that a fresh node has them from its start.

What containerd keeps lies in a volume of our own container engine, filled once by a containerd of the node's image and
never changed again. A node gets a copy made of hard links, in a second or two: blobs and unpacked layers are only read,
and what containerd writes in place, its databases, is copied.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import labour
from e2e.cluster.deadline import wait_until
from e2e.cluster.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2e.cluster.command import Progress
    from e2e.cluster.engine import Engine

CONTAINERD_ROOT: Final = "/var/lib/containerd"

_VOLUME: Final = "headrace-images"
_MOUNT: Final = ("--network=none", "--volume", f"{_VOLUME}:/store")
_DRAFT: Final = ".new"
_FILL_TIMEOUT_S: Final = 1200.0
_COPY_TIMEOUT_S: Final = 300.0


def node_store(engine: Engine, node: str, images: Sequence[str] | None, *, log: Path, progress: Progress) -> str | None:
    """Return the folder to mount at `CONTAINERD_ROOT` of one node; another node may not run with it.

    Args:
        engine: Our own container engine: its volumes are folders of this machine.
        node: The node's image.
        images: Images of the engine. Where only their last layers are others than the last time, the node is given the
            old ones, which have all other layers. None: those of the last time; where there are none, None is returned.
        log: Where what is called writes.
        progress: Takes lines for the person who waits.
    """
    engine.docker("volume", "create", _VOLUME)
    kept = _script(engine, node, "ls /store").split()
    found = engine.docker("image", "inspect", "--format", "{{.Id}}", node)
    key = last_kept(kept, found) if images is None else store_key(found, _layers(engine, images))
    if key is None:
        return None
    if key not in kept:
        progress("unpacking images for nodes; this is kept for the next clusters")
        _fill(engine, node, key, images or (), log=log, progress=progress)
    _script(engine, node, copy_script(key))
    place = engine.docker("volume", "inspect", "--format", "{{.Mountpoint}}", _VOLUME).strip()
    return f"{place}/run"


def store_key(node: str, layers: Sequence[Sequence[str]]) -> str:
    """Return the name of what is kept for a node of this image: other layers than the last ones give another name."""
    return f"{_digest(node)}-{_digest([each[:-1] for each in layers])}"


def last_kept(kept: Sequence[str], node: str) -> str | None:
    """Return which of the names is for a node of this image."""
    return next((name for name in kept if name.startswith(f"{_digest(node)}-") and not name.endswith(_DRAFT)), None)


def clear(engine: Engine, node: str) -> None:
    """Remove the last node's copy."""
    if engine.has_image(node) and _VOLUME in engine.docker("volume", "ls", "--quiet").split():
        _script(engine, node, "rm -rf /store/run")


def copy_script(key: str) -> str:
    """Return a script that makes the node's copy: links to everything, but for databases."""
    own = 'find /store/run -name "*.db" -exec sh -ec \'cp -p "$0" "$0.own"; mv "$0.own" "$0"\' {} \\;'
    return f"rm -rf /store/run; cp -al /store/{key} /store/run; {own}"


def _fill(engine: Engine, node: str, key: str, images: Sequence[str], *, log: Path, progress: Progress) -> None:
    start = (
        f"rm -rf /store/*; cp -a {CONTAINERD_ROOT} /store/{key}{_DRAFT}; exec containerd --root /store/{key}{_DRAFT}"
    )
    command = ("run", "--detach", "--privileged", *_MOUNT, "--entrypoint=sh", node, "-ec", start)
    container = engine.docker(*command).strip()
    try:
        wait_until(lambda: _answers(engine, container), timeout_s=120, what="containerd did not answer")
        send = f"docker exec -i {container} ctr --namespace=k8s.io images import -"
        labour(
            ["bash", "-ec", f"set -o pipefail; docker save {' '.join(images)} | {send}"],
            log=log,
            timeout_s=_FILL_TIMEOUT_S,
            progress=progress,
            what="unpacking images",
            environment=engine.environment,
        )
        engine.docker("stop", container)
    finally:
        engine.docker("rm", "--force", "--volumes", container)
    _script(engine, node, f"mv /store/{key}{_DRAFT} /store/{key}")


def _layers(engine: Engine, images: Sequence[str]) -> list[list[str]]:
    inspect = ("image", "inspect", "--format", "{{json .RootFS.Layers}}")
    return [json.loads(engine.docker(*inspect, image)) for image in images]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _answers(engine: Engine, container: str) -> bool:
    try:
        engine.docker("exec", container, "ctr", "version", timeout_s=15)
    except CommandError:
        return False
    return True


def _script(engine: Engine, node: str, script: str) -> str:
    """Run a script of the shell in the volume and return what it printed."""
    return engine.docker("run", "--rm", *_MOUNT, "--entrypoint=sh", node, "-ec", script, timeout_s=_COPY_TIMEOUT_S)
