"""What a backend can be told to do: a small vocabulary that names no backend."""

from dataclasses import dataclass

from headrace_operator.desired import DeploymentName, Pool, Role, Router, WorkerName
from headrace_operator.observed import Endpoint, Pair


@dataclass(frozen=True, slots=True)
class EnsurePool:
    """Hold these many workers of this template, start again those that die, and drain those beyond the number."""

    pool: Pool


@dataclass(frozen=True, slots=True)
class DrainPool:
    """Let the pool's workers finish what runs, then end."""

    deployment: DeploymentName
    role: Role


@dataclass(frozen=True, slots=True)
class RemovePool:
    """Forget a pool whose workers have all ended."""

    deployment: DeploymentName
    role: Role


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


Action = EnsurePool | DrainPool | RemovePool | Verify | Route | EnsureRouter | RemoveRouter
