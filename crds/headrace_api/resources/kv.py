"""Keys and values of the tokens in context: where they are kept and how they travel."""

from typing import ClassVar, Literal

from pydantic import Field

from headrace_api.resources.labels import ObjectName
from headrace_api.resources.meta import Part
from headrace_api.resources.quantity import Quantity, parse_quantity
from headrace_api.resources.rules import Rule

Transfer = Literal["auto", "nixl", "sockets"]
RDMA_PATTERN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"


class RdmaSpec(Part):
    """Network adapters that write KV into the memory of another node."""

    resource: str = Field(pattern=RDMA_PATTERN, max_length=317, examples=["rdma/hca"])
    """Name under which the cluster's device plugin offers the adapters."""
    count: int = Field(default=1, ge=1, le=64, examples=[1])
    """Adapters for each worker."""
    lock_memory: bool = Field(default=False, examples=[True])
    """Adds the capability IPC_LOCK, needed where the container runtime limits locked memory. The namespace must then be
    outside the restricted Pod Security profile."""


class OffloadSpec(Part):
    """Where KV blocks go that a worker's KV memory has no room for; they come back when a prompt begins alike."""

    rules: ClassVar = (
        Rule(
            "quantity(string(self.memory)).compareTo(quantity('1Mi')) >= 0",
            lambda offload: offload.memory_bytes >= 1 << 20,
            "memory is {memory}; offloaded blocks need at least 1Mi",
            "memory",
        ),
        Rule(
            "has(self.disk) || !has(self.path)",
            lambda offload: offload.disk is not None or offload.path is None,
            "path is where disk lies; state disk too, or leave path out",
            "path",
        ),
        Rule(
            "has(self.disk) || !has(self.storageClass)",
            lambda offload: offload.disk is not None or offload.storage_class is None,
            "storageClass is where disk comes from; state disk too, or leave storageClass out",
            "storageClass",
        ),
    )

    memory: Quantity = Field(examples=["4Gi"])
    """Host memory of each worker for such blocks, in bytes, at least 1Mi; a worker asks its node for it. Blocks that
    were not used for the longest time go first."""
    disk: Quantity | None = Field(default=None, examples=["50Gi"])
    """Disk of each worker for blocks that memory has no room for, in bytes. Left out: none. What lies there survives
    restarts of the worker, in a cluster as long as its pod is there."""
    path: str | None = Field(default=None, min_length=1, max_length=1024, examples=["/var/cache/headrace"])
    """Folder for `disk` in local mode; each worker makes one of its own in it. Left out: `kv` in Headrace's cache
    folder. A cluster ignores it."""
    storage_class: ObjectName | None = Field(default=None, examples=["local-nvme"])
    """StorageClass of a volume for `disk` that is made with each pod and deleted with it. Left out: the node's own disk
    (an `emptyDir`). Local mode ignores it."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of `memory`."""
        return parse_quantity(self.memory)

    @property
    def disk_bytes(self) -> int:
        """Bytes of `disk`, 0 where it is left out."""
        return 0 if self.disk is None else parse_quantity(self.disk)


class KvSpec(Part):
    """Keys and values of the tokens in context: where they are kept and how they travel."""

    rules: ClassVar = (
        Rule(
            "!has(self.memory) || quantity(string(self.memory)).compareTo(quantity('1Mi')) >= 0",
            lambda kv: kv.memory_bytes is None or kv.memory_bytes >= 1 << 20,
            "memory is {memory}; KV blocks need at least 1Mi",
            "memory",
        ),
    )

    memory: Quantity | None = Field(default=None, examples=["512Mi"])
    """Memory for KV blocks in each worker, in bytes, at least 1Mi. Left out: a quarter of what is free, at most eight
    full contexts."""
    block_size: int = Field(default=16, ge=1, le=256, examples=[16])
    """Tokens per KV block: the unit of the prefix cache and of the hand-off. Larger blocks travel faster and share
    less."""
    transfer: Transfer = Field(default="auto", examples=["nixl"])
    """How KV travels from prefill to decode. `auto` is `nixl` on Linux (an error where it is missing) and `sockets`
    elsewhere."""
    offload: OffloadSpec | None = Field(default=None, examples=[{"memory": "4Gi", "disk": "50Gi"}])
    """Where blocks go that `memory` has no room for. Left out: they are lost and computed anew. Workers of several
    ranks cannot have it yet."""
    rdma: RdmaSpec | None = Field(default=None, examples=[{"resource": "rdma/hca"}])
    """Network adapters that write KV into the memory of another node. Left out: the pods' network carries it. Local
    mode ignores it."""

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of `memory`, None where it is left out."""
        return None if self.memory is None else parse_quantity(self.memory)
