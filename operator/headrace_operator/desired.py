"""What should be: pools of workers and a router, without a word on where they run."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
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
    chat_template: str | None = None
    offload_memory_bytes: int | None = None
    offload_disk_bytes: int | None = None
    offload_path: str | None = None
    tensor_parallel: int = 1
    nodes: int = 1
    """Pods of each worker, which share its ranks."""

    def revision(self) -> str:
        """Return a digest of all fields: workers with another one are replaced."""
        fields = asdict(self)
        if self.tensor_parallel == 1:
            del fields["tensor_parallel"]  # workers from before there was such a field are the same ones
        if self.nodes == 1:
            del fields["nodes"]
        for name in ("chat_template", "offload_memory_bytes", "offload_disk_bytes", "offload_path"):
            if fields[name] is None:
                del fields[name]
        return _digest(fields)

    def pairing(self) -> str:
        """Return a digest of what both sides of a hand-off must have alike."""
        return _digest([self.model, self.dtype, self.block_size, self.transport])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, order=True)
class PoolKey:
    """Names a pool: workers of one role and one revision of a deployment."""

    deployment: DeploymentName
    role: Role
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one revision takes another's place."""

    surge: int = 1
    """Workers beyond the number asked for."""
    unavailable: int = 0
    """Workers that may be missing from the number asked for."""
    paused: bool = False
    """No worker changes its revision."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one role of one deployment."""

    deployment: DeploymentName
    role: Role
    replicas: int
    template: Template
    revision: str = ""
    pairing: str = ""
    """Workers hand KV over within one pairing only."""
    pace: Pace = Pace()

    @property
    def nodes(self) -> int:
        """Pods, or machines, of each worker."""
        return self.template.nodes

    @property
    def key(self) -> PoolKey:
        """What names this pool."""
        return PoolKey(self.deployment, self.role, self.revision)


@dataclass(frozen=True, slots=True)
class Router:
    """The front door; `serves` names the deployments behind it."""

    serves: frozenset[DeploymentName]
    books: str | None = None
    """Tiers, prices and budgets as JSON (`RouterSpec.books_json`); None without an LLMRouter."""
    keys_file: str | None = None
    ledger_file: str | None = None
    gate_file: str | None = None
    predictor_file: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """All that should be; empty means: everything ends, in order."""

    pools: tuple[Pool, ...] = ()
    router: Router | None = field(default=None)

    @property
    def deployments(self) -> tuple[DeploymentName, ...]:
        """Names of the deployments, in the order of the files."""
        return tuple(dict.fromkeys(pool.deployment for pool in self.pools))
