"""What a backend can be told to do: a small vocabulary that names no backend."""

from dataclasses import dataclass

from headrace_operator.desired import Pool, PoolKey, Router, WorkerName
from headrace_operator.observed import Endpoint, Pair


@dataclass(frozen=True, slots=True)
class EnsurePool:
    """Hold these many workers of this template, start again those that die, and drain those beyond the number."""

    pool: Pool


@dataclass(frozen=True, slots=True)
class ScalePool:
    """Hold another number of workers of a revision that is on its way out; those beyond it drain."""

    key: PoolKey
    replicas: int


@dataclass(frozen=True, slots=True)
class DrainPool:
    """Let the pool's workers finish what runs, then end."""

    key: PoolKey


@dataclass(frozen=True, slots=True)
class RemovePool:
    """Forget a pool whose workers have all ended."""

    key: PoolKey


@dataclass(frozen=True, slots=True)
class Verify:
    """Try a real hand-off between two ready workers."""

    prefill: WorkerName
    decode: WorkerName
    pair: Pair


@dataclass(frozen=True, slots=True)
class Route:
    """The router shall use exactly these workers."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class EnsureRouter:
    """Hold one router and start it again when it dies."""

    router: Router


@dataclass(frozen=True, slots=True)
class RemoveRouter:
    """Let the router finish what runs, then end it."""


Action = EnsurePool | ScalePool | DrainPool | RemovePool | Verify | Route | EnsureRouter | RemoveRouter
