"""Keys and values of the tokens in context: where they are kept and how they travel."""

from typing import ClassVar, Literal

from pydantic import Field

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
    rdma: RdmaSpec | None = Field(default=None, examples=[{"resource": "rdma/hca"}])
    """Network adapters that write KV into the memory of another node. Left out: the pods' network carries it. Local
    mode ignores it."""

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of `memory`, None where it is left out."""
        return None if self.memory is None else parse_quantity(self.memory)
