"""An image as an archive that holds its last layer only, for a node that has all the others."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_RUN_SETTINGS: Final = ("Env", "Entrypoint", "Cmd", "User", "WorkingDir", "Labels")


def archive(name: str, inspected: Mapping[str, Any], present: Mapping[str, int], layer: bytes) -> bytes:
    """Return an archive for `ctr images import`.

    Args:
        name: Name of the image.
        inspected: What `docker image inspect` says of it.
        present: Digest and size of each layer but the last, in order.
        layer: The last layer, a tar.
    """
    digests = [*present, _digest(layer)]
    sizes = [*present.values(), len(layer)]
    config = _json(
        {
            "architecture": inspected["Architecture"],
            "os": inspected["Os"],
            "config": {key: inspected["Config"][key] for key in _RUN_SETTINGS if inspected["Config"].get(key)},
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
    )
    layers = [_descriptor(_LAYER, digest, size) for digest, size in zip(digests, sizes, strict=True)]
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, _digest(config), len(config)),
            "layers": layers,
        }
    )
    top = _descriptor(_MANIFEST, _digest(manifest), len(manifest))
    index = {"schemaVersion": 2, "manifests": [{**top, "annotations": {"io.containerd.image.name": name}}]}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {f"blobs/{_digest(blob).replace(':', '/')}": blob for blob in (config, manifest, layer)}
    return _tar(files)


def layer_of(folder: Path, place: str) -> bytes:
    """Return a layer that holds a folder of this machine at `place` in the image, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as target:
        for path in [folder, *sorted(folder.rglob("*"))]:
            name = f"{place.strip('/')}/{path.relative_to(folder)}".removesuffix("/.")
            target.add(path, name, recursive=False, filter=_as_root)
    return buffer.getvalue()


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _descriptor(media: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media, "digest": digest, "size": size}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as target:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            target.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
