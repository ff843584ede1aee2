"""What is: a snapshot that a backend takes of its pools, workers and router."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from headrace_operator.desired import DeploymentName, Pool, PoolKey, Role, Router, WorkerName


class Phase(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    """Its process runs and cannot serve: it loads, or it stopped answering."""
    READY = "ready"
    DRAINING = "draining"
    """It finishes running requests and takes no others."""
    BACKOFF = "backoff"
    """Its process has ended unasked; it is started again after a pause."""
    DEAD = "dead"
    """Its processes have all ended and none will be started."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a starting worker is: `stage` is `download`, `load` or `warm`."""

    stage: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """How often in a row a child ended before it was healthy, and the last time in words."""

    count: int
    message: str
    permanent: bool = False
    """Starting again cannot help: its settings were refused."""
    lines: tuple[str, ...] = ()
    """The end of what it logged, from its last start on."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as its backend sees it."""

    name: WorkerName
    deployment: DeploymentName
    role: Role
    phase: Phase
    incarnation: str = ""
    url: str | None = None
    progress: Progress | None = None
    failure: Failure | None = None
    revision: str = ""
    pairing: str = ""

    @property
    def pool(self) -> PoolKey:
        """The pool that it belongs to."""
        return PoolKey(self.deployment, self.role, self.revision)


@dataclass(frozen=True, slots=True)
class Pair:
    """A hand-off's two sides, by incarnation: a restarted worker is another one, which nobody has tried yet."""

    prefill: str
    decode: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A worker that the router may use."""

    name: WorkerName
    deployment: DeploymentName
    role: Role
    url: str
    incarnation: str
    pairing: str = ""


@dataclass(frozen=True, slots=True)
class ObservedPool:
    """A pool as it was last asked for; `draining` when its end was asked for since."""

    key: PoolKey
    replicas: int
    pairing: str = ""
    draining: bool = False

    @classmethod
    def of(cls, pool: Pool, *, draining: bool = False) -> Self:
        """Return the pool as it is once it was asked for."""
        return cls(pool.key, pool.replicas, pool.pairing, draining)


@dataclass(frozen=True, slots=True)
class ObservedRouter:
    """The router as it was last asked for."""

    router: Router
    phase: Phase
    url: str | None = None
    failure: Failure | None = None
    workers: frozenset[str] = frozenset()
    """URLs of the workers that it says it chooses from now: it takes over a new list a moment after it was told."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The model's files in a store that all workers of a deployment share."""

    ready: bool
    message: str = ""
    """What is awaited, or what failed and what to do."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision may depend on."""

    pools: tuple[ObservedPool, ...] = ()
    """The oldest revision first."""
    workers: tuple[Worker, ...] = ()
    router: ObservedRouter | None = None
    verified: frozenset[str] = frozenset()
    """Incarnations that have taken their side of a hand-off that was tried."""
    probing: frozenset[Pair] = frozenset()
    """Pairs that are being tried now."""
    resting: frozenset[Pair] = frozenset()
    """Pairs that failed and are not tried again yet."""
    weights: Weights | None = None
    """How far a shared store of the model is; None where each worker fetches its own."""
    routed: tuple[Endpoint, ...] = ()
    """What the router was last told to use."""

    def ready(self, deployment: DeploymentName, *roles: Role) -> tuple[Worker, ...]:
        """Return the ready workers of a deployment in any of these roles."""
        return tuple(
            worker
            for worker in self.workers
            if worker.deployment == deployment and worker.role in roles and worker.phase is Phase.READY
        )

    def alive(self, key: PoolKey) -> tuple[Worker, ...]:
        """Return the workers of a pool that may still run."""
        return tuple(worker for worker in self.workers if worker.pool == key and worker.phase is not Phase.DEAD)
