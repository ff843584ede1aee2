"""Brings images to the node: the code alone where the node has the packages already, which takes seconds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from e2e.cluster.errors import CommandError
from e2e.images.archive import archive, layer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.cluster.kind import KindCluster

CODE: Final = "/opt/headrace/code"
"""What the last layer of each of our images holds, and all that it holds."""

_BLOBS: Final = "/var/lib/containerd/io.containerd.content.v1.content/blobs"


def load_images(cluster: KindCluster, images: Sequence[str]) -> None:
    """Bring the images of `images/Dockerfile` to the node, those that it lacks."""
    lacking = cluster.lacking(images)
    whole = [image for image in lacking if not _load_code(cluster, image)]
    if whole:
        cluster.load(*whole)


def tag_images(cluster: KindCluster, images: Sequence[str], tag: str) -> None:
    """Give images that the node has another tag there, the one that a version of the chart asks for."""
    for image in images:
        family = image.rpartition(":")[0]
        cluster.node("ctr", "--namespace=k8s.io", "images", "tag", "--force", image, f"{family}:{tag}")


def _load_code(cluster: KindCluster, image: str) -> bool:
    """Load an image by its last layer; say whether that was possible."""
    inspected: dict[str, Any] = json.loads(cluster.engine().docker("image", "inspect", image))[0]
    layers: list[str] = inspected["RootFS"]["Layers"][:-1]
    try:
        sizes = cluster.node("stat", "--format=%s", *(f"{_BLOBS}/{layer.replace(':', '/')}" for layer in layers))
    except CommandError:  # a layer is not there
        return False
    present = dict(zip(layers, map(int, sizes.split()), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        code, file = Path(folder) / "code", Path(folder) / "image.tar"
        _copy_code(cluster, image, code)
        file.write_bytes(archive(image, inspected, present, layer_of(code, CODE)))
        cluster.import_archive(file)
    return True


def _copy_code(cluster: KindCluster, image: str, folder: Path) -> None:
    engine = cluster.engine()
    container = engine.docker("create", "--network=none", image).strip()
    try:
        engine.docker("cp", f"{container}:{CODE}", str(folder))
    finally:
        engine.docker("rm", container)
