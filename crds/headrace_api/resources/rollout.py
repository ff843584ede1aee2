"""How a new revision of the workers takes the place of the old one."""

from typing import ClassVar

from pydantic import Field

from headrace_api.resources.meta import Part
from headrace_api.resources.percent import IntOrPercent, is_zero
from headrace_api.resources.quantity import Duration, parse_duration
from headrace_api.resources.rules import Rule


class RolloutSpec(Part):
    """How a new revision of the workers takes the place of the old one. Local mode starts anew instead."""

    rules: ClassVar = (
        Rule(
            "!has(self.maxSurge) || !(string(self.maxSurge) in ['0', '0%']) || "
            "(has(self.maxUnavailable) && !(string(self.maxUnavailable) in ['0', '0%']))",
            lambda rollout: not (is_zero(rollout.max_surge) and is_zero(rollout.max_unavailable)),
            "maxSurge and maxUnavailable are both 0, so that no worker could be replaced; set one to at least 1",
            "maxSurge",
        ),
        Rule(
            "!has(self.drainTimeout) || "
            "(duration(self.drainTimeout) >= duration('1s') && duration(self.drainTimeout) <= duration('24h'))",
            lambda rollout: 1 <= rollout.drain_timeout_s <= 86400,
            "drainTimeout is {drainTimeout}; write at least 1s and at most 24h",
            "drainTimeout",
        ),
    )

    max_surge: IntOrPercent = Field(default=1, examples=["25%"])
    """Workers of each role that may be there beyond `replicas` during a rollout: a number, or a share rounded up."""
    max_unavailable: IntOrPercent = Field(default=0, examples=[1])
    """Workers of each role that may be missing from `replicas` during a rollout: a number, or a share rounded down.
    With 0 capacity never sinks; nodes need room for `maxSurge` more workers."""
    paused: bool = Field(default=False, examples=[True])
    """Stops a rollout where it is: no more workers are made or removed for it until this is false again."""
    drain_timeout: Duration = Field(default="10m", examples=["90s"])
    """How long a worker that is told to end may take for the answers it is writing, from 1s to 24h; what is not done by
    then is continued by another worker."""

    @property
    def drain_timeout_s(self) -> float:
        """Seconds of `drain_timeout`."""
        return parse_duration(self.drain_timeout)
