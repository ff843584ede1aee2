"""What a user asks of scaling, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace_api.resources import LLMDeployment
from headrace_api.resources.percent import count
from headrace_api.resources.quantity import parse_duration
from headrace_api.resources.scaling import Lower, PoolScaling, Raise, ScalingSpec
from headrace_operator.desired import Role
from headrace_operator.scaling.ratio import Ratio


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one pool."""

    least: int
    most: int
    gpus: int = 0
    """Of each worker."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast numbers move in one direction."""

    window_s: float
    """What is wanted must be wanted for so long."""
    change: int | str
    """Workers, or a share of them, within `every_s`."""
    every_s: float

    def most(self, number: int) -> int:
        """Return by how many workers a pool of so many may change within `every_s`: at least one."""
        return max(1, count(self.change, of=number, round_up=True))

    @classmethod
    def of(cls, spec: Raise | Lower) -> "Pace":
        """Return the pace that a user wrote."""
        return cls(parse_duration(spec.stabilization), spec.change, parse_duration(spec.every))


@dataclass(frozen=True, slots=True)
class Terms:
    """The docstring below a field is its manual."""

    pools: Mapping[Role, Bounds]
    """The pools that there are: prefill and decode, decode alone, or unified."""
    waiting: float
    """Waiting requests that one worker may have."""
    tokens: float
    """Waiting prompt tokens that one worker may have."""
    running: float
    """Running requests that one decode worker may have."""
    used: float
    """Share of KV blocks that one decode worker may have in use."""
    up: Pace
    down: Pace
    idle_s: float
    ratio: Ratio | None = None
    gpus: int | None = None
    """Of all pools together."""
    is_paused: bool = False


def terms_of(deployment: LLMDeployment, scaling: ScalingSpec, gpus: Mapping[Role, int]) -> Terms:
    """Return the terms of a deployment.

    Args:
        deployment: the resource.
        scaling: its `spec.scaling`.
        gpus: of each worker, by the roles that the deployment has.
    """
    targets, running = scaling.targets, scaling.targets.running_requests
    return Terms(
        {role: _bounds(scaling.prefill if role == "prefill" else scaling.decode, each) for role, each in gpus.items()},
        waiting=targets.waiting_requests,
        tokens=targets.waiting_prompt_tokens,
        running=running or max(1.0, deployment.spec.engine.max_running * 0.75),
        used=targets.kv_utilization / 100,
        up=Pace.of(scaling.up),
        down=Pace.of(scaling.down),
        idle_s=scaling.idle_after_s,
        ratio=Ratio.parse(scaling.ratio) if scaling.ratio is not None and "prefill" in gpus else None,
        gpus=scaling.max_gpus,
        is_paused=scaling.paused,
    )


def _bounds(pool: PoolScaling, gpus: int) -> Bounds:
    return Bounds(pool.min_replicas, pool.max_replicas, gpus)
