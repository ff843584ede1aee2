"""The volume of a worker's pod that KV blocks are offloaded to."""

from typing import Final

from headrace_api.resources.kv import KvSpec
from headrace_operator.objects.owner import Manifest

FOLDER: Final = "/var/cache/headrace/kv"
_VOLUME: Final = "kv"
_SPARE_SHARE: Final = 16
_SPARE_BYTES: Final = 64 << 20
"""What the volume has beyond the worker's budget: folders, journals, a file that is being written. A pod that goes
beyond the limit of an `emptyDir` is evicted, so the worker's own budget must be reached first."""


def volumes(kv: KvSpec) -> list[Manifest]:
    """Return the volume, of the node's disk or of a claim that lives as long as the pod; none without a disk."""
    offload = kv.offload
    if offload is None or offload.disk is None:
        return []
    size = str(offload.disk_bytes + offload.disk_bytes // _SPARE_SHARE + _SPARE_BYTES)
    if offload.storage_class is None:
        return [{"name": _VOLUME, "emptyDir": {"sizeLimit": size}}]
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": offload.storage_class,
        "resources": {"requests": {"storage": size}},
    }
    return [{"name": _VOLUME, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]


def mounts(kv: KvSpec) -> list[Manifest]:
    """Return the mount of that volume."""
    return [{"name": _VOLUME, "mountPath": FOLDER}] if volumes(kv) else []
