"""How the number of workers follows the load."""

from typing import ClassVar, Final, Literal

from pydantic import Field

from headrace_api.resources.meta import Part
from headrace_api.resources.percent import IntOrPercent, is_zero
from headrace_api.resources.quantity import Duration, parse_duration
from headrace_api.resources.rules import Rule

Trigger = Literal["external-push", "prometheus", "metrics-api"]
RATIO_PATTERN: Final = r"^[1-9][0-9]{0,2}:[1-9][0-9]{0,2}$"
ADDRESS_PATTERN: Final = r"^https?://[A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]{1,5})?(/[-A-Za-z0-9._~/]*)?$"
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S


class PoolScaling(Part):
    """Bounds of one role's number of workers."""

    rules: ClassVar = (
        Rule(
            "self.?minReplicas.orValue(1) <= self.?maxReplicas.orValue(8)",
            lambda own: own.min_replicas <= own.max_replicas,
            "minReplicas is above maxReplicas; raise maxReplicas or lower minReplicas",
            "minReplicas",
        ),
    )

    min_replicas: int = Field(default=1, ge=0, le=1024, examples=[0])
    """Fewest workers. With 0 the pool ends when nothing was asked for during `idleAfter`; the next request waits in the
    router and wakes it."""
    max_replicas: int = Field(default=8, ge=1, le=1024, examples=[16])
    """Most workers."""


class Targets(Part):
    """How much work one worker may have before another is wanted."""

    waiting_requests: int = Field(default=4, ge=1, le=65536, examples=[4])
    """Requests that wait, for each worker; those whose prompt is with a prefill worker wait there only."""
    waiting_prompt_tokens: int = Field(default=16384, ge=1, le=16777216, examples=[16384])
    """Prompt tokens that wait, for each prefill (or unified) worker."""
    kv_utilization: int = Field(default=80, ge=1, le=100, examples=[80])
    """Percent of a decode (or unified) worker's KV blocks that are in use; blocks that can be evicted are not."""
    running_requests: int | None = Field(default=None, ge=1, le=65536, examples=[48])
    """Requests that run at once in each decode (or unified) worker. Left out: three quarters of `engine.maxRunning`."""


class Raise(Part):
    """How fast workers are added."""

    rules: ClassVar = (
        Rule(
            "duration(self.?stabilization.orValue('10s')) <= duration('1h')",
            lambda own: parse_duration(own.stabilization) <= _HOUR_S,
            "stabilization is {stabilization}; write at most 1h",
            "stabilization",
        ),
        Rule(
            "duration(self.?every.orValue('30s')) >= duration('1s') && "
            "duration(self.?every.orValue('30s')) <= duration('30m')",
            lambda own: 1 <= parse_duration(own.every) <= _HOUR_S / 2,
            "every is {every}; write at least 1s and at most 30m",
            "every",
        ),
        Rule(
            "!has(self.change) || !(string(self.change) in ['0', '0%'])",
            lambda own: not is_zero(own.change),
            "change is 0, so that no worker could ever be added; set at least 1, or use paused",
            "change",
        ),
    )

    stabilization: Duration = Field(default="10s", examples=["10s"])
    """How long more workers must be wanted before one is added, at most 1h."""
    change: IntOrPercent = Field(default="100%", examples=["100%"])
    """Most workers added within `every`: a number, or a share of those there are, rounded up."""
    every: Duration = Field(default="30s", examples=["30s"])
    """The time over which `change` is counted, from 1s to 30m."""


class Lower(Part):
    """How fast workers are taken away."""

    rules: ClassVar = (
        Rule(
            "duration(self.?stabilization.orValue('5m')) <= duration('1h')",
            lambda own: parse_duration(own.stabilization) <= _HOUR_S,
            "stabilization is {stabilization}; write at most 1h",
            "stabilization",
        ),
        Rule(
            "duration(self.?every.orValue('1m')) >= duration('1s') && "
            "duration(self.?every.orValue('1m')) <= duration('30m')",
            lambda own: 1 <= parse_duration(own.every) <= _HOUR_S / 2,
            "every is {every}; write at least 1s and at most 30m",
            "every",
        ),
        Rule(
            "!has(self.change) || !(string(self.change) in ['0', '0%'])",
            lambda own: not is_zero(own.change),
            "change is 0, so that no worker could ever be taken away; set at least 1, or use paused",
            "change",
        ),
    )

    stabilization: Duration = Field(default="5m", examples=["5m"])
    """How long fewer workers must be enough before one is taken away, at most 1h."""
    change: IntOrPercent = Field(default="25%", examples=[1])
    """Most workers taken away within `every`: a number, or a share of those there are, rounded up."""
    every: Duration = Field(default="1m", examples=["1m"])
    """The time over which `change` is counted, from 1s to 30m."""


class PrometheusSpec(Part):
    """The Prometheus that KEDA asks."""

    address: str = Field(pattern=ADDRESS_PATTERN, max_length=253, examples=["http://prometheus.monitoring.svc:9090"])
    """Address of its API. It must read workers and routers with the labels that the chart's PodMonitor gives them."""


class ScalingSpec(Part):
    """How the number of workers follows the load. `scaling: {}` is a good start."""

    rules: ClassVar = (
        Rule(
            "self.?trigger.orValue('external-push') != 'prometheus' || has(self.prometheus)",
            lambda own: own.trigger != "prometheus" or own.prometheus is not None,
            "trigger prometheus needs to know where Prometheus is; set prometheus.address",
            "prometheus",
        ),
        Rule(
            "duration(self.?idleAfter.orValue('10m')) >= duration('1s') && "
            "duration(self.?idleAfter.orValue('10m')) <= duration('24h')",
            lambda own: 1 <= own.idle_after_s <= _DAY_S,
            "idleAfter is {idleAfter}; write at least 1s and at most 24h",
            "idleAfter",
        ),
    )

    trigger: Trigger = Field(default="external-push", examples=["prometheus"])
    """Where KEDA gets its numbers from. `external-push`: the operator, which reads the workers itself and tells the
    numbers that hold all that is asked for here; `prometheus` and `metrics-api`: the raw load of one pool, from
    Prometheus or from the operator, which know neither `ratio` nor each other. Without KEDA the operator scales by
    itself, as with `external-push`."""
    prometheus: PrometheusSpec | None = Field(
        default=None, examples=[{"address": "http://prometheus.monitoring.svc:9090"}]
    )
    """The Prometheus that KEDA asks; for trigger `prometheus`."""
    prefill: PoolScaling = PoolScaling()
    """Bounds of the number of prefill workers."""
    decode: PoolScaling = PoolScaling()
    """Bounds of the number of decode (or unified) workers."""
    targets: Targets = Targets()
    """How much work one worker may have before another is wanted."""
    ratio: str | None = Field(default=None, pattern=RATIO_PATTERN, max_length=7, examples=["1:3"])
    """Prefill to decode workers, held as closely as whole numbers and the bounds allow; the pool that needs more leads.
    Left out: each pool follows its own load."""
    max_gpus: int | None = Field(default=None, ge=1, le=1048576, alias="maxGPUs", examples=[16])
    """Most GPUs (`nvidia.com/gpu`) of all workers together. Where it does not do for what both pools want, it is shared
    by their needs. Left out: no bound but `maxReplicas`."""
    up: Raise = Raise()
    """How fast workers are added."""
    down: Lower = Lower()
    """How fast workers are taken away."""
    idle_after: Duration = Field(default="10m", examples=["10m"])
    """How long nothing must have been asked for before a pool with `minReplicas: 0` ends, from 1s to 24h."""
    paused: bool = Field(default=False, examples=[True])
    """Leaves the numbers as they are, for whoever else sets them, until this is false again."""

    @property
    def idle_after_s(self) -> float:
        """Seconds of `idle_after`."""
        return parse_duration(self.idle_after)
