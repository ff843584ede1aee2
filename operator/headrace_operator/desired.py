"""What should be: pools of workers and a router, without a word on where they run."""

from dataclasses import dataclass, field
from typing import Literal, NewType

Role = Literal["prefill", "decode", "unified"]
DeploymentName = NewType("DeploymentName", str)
WorkerName = NewType("WorkerName", str)


@dataclass(frozen=True, slots=True)
class Template:
    """How the workers of a pool are set; the fields are those of the worker's settings, by the same names."""

    model: str
    dtype: str = "auto"
    threads: int = 0
    disaggregation: str = "auto"
    max_model_len: int | None = None
    kv_memory_bytes: int | None = None
    block_size: int = 16
    max_running: int = 64
    chunk_tokens: int = 512
    transport: str = "auto"


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one role of one deployment."""

    deployment: DeploymentName
    role: Role
    replicas: int
    template: Template

    def worker(self, ordinal: int) -> WorkerName:
        """Return the stable name of one of the workers."""
        return WorkerName(f"{self.deployment}-{self.role}-{ordinal}")

    @property
    def workers(self) -> tuple[WorkerName, ...]:
        """Names of all the workers that should be."""
        return tuple(self.worker(ordinal) for ordinal in range(self.replicas))


@dataclass(frozen=True, slots=True)
class Router:
    """The front door; `serves` names the deployments behind it."""

    serves: frozenset[DeploymentName]


@dataclass(frozen=True, slots=True)
class Desired:
    """All that should be; empty means: everything ends, in order."""

    pools: tuple[Pool, ...] = ()
    router: Router | None = field(default=None)

    @property
    def deployments(self) -> tuple[DeploymentName, ...]:
        """Names of the deployments, in the order of the files."""
        return tuple(dict.fromkeys(pool.deployment for pool in self.pools))
