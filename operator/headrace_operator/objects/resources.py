"""How much of a node a worker asks for, where the user does not say it."""

from typing import Final

from headrace_api.resources.kv import KvSpec
from headrace_api.resources.pods import Workers
from headrace_operator.objects.owner import Manifest
from headrace_operator.objects.site import Accelerator

GPU: Final = "nvidia.com/gpu"
_RUNTIME_BYTES: Final = 1 << 30
"""Interpreter, torch and the compute buffers of a small model. Weights come on top and are not known here, so what
is asked for is a floor and no bound."""
_OPEN_PROCESSORS: Final = "100m"
"""Asked for where threads are left open: such a worker takes what the node has idle, and more would keep the smallest
example off a laptop's cluster, where a rollout holds four workers at once."""


def requirements(workers: Workers, kv: KvSpec, accelerator: Accelerator, ranks: int = 1) -> Manifest:
    """Return the resources of a worker's container with so many ranks: what the user wrote, completed."""
    own = workers.resources
    requests, limits = dict(own.requests), dict(own.limits)
    stated = requests.keys() | limits.keys()
    if "cpu" not in stated:
        requests["cpu"] = str(workers.threads) if workers.threads else _OPEN_PROCESSORS
    if "memory" not in stated:
        kv_bytes = kv.memory_bytes if accelerator == "cpu" else None
        offload_bytes = 0 if kv.offload is None else kv.offload.memory_bytes
        requests["memory"] = str(_RUNTIME_BYTES + (kv_bytes or 0) + offload_bytes)
    # devices cannot be shared: the API server takes the limit for the request
    if accelerator == "nvidia" and GPU not in stated:
        limits[GPU] = str(ranks)
    if kv.rdma is not None and kv.rdma.resource not in stated:
        limits[kv.rdma.resource] = str(kv.rdma.count)
    return {"requests": requests, **({"limits": limits} if limits else {})}


def shared_memory(accelerator: Accelerator) -> str:
    """Return the bound of /dev/shm.

    A bound only: memory is taken as it is written, and counts as the container's own. UCX keeps a few mebibytes for
    each peer of the same node; on GPUs NCCL's buffers and pinned staging need more than the 64Mi that a runtime gives.
    """
    return "1Gi" if accelerator == "nvidia" else "256Mi"
