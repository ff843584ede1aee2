"""Counters and durations of the engine, gathered by the step and sent to the front at most ten times a second."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from headrace_worker.engine.scheduler import Scheduler, waiting_tokens
from headrace_worker.messages import Stats

INTERVAL_S = 0.1
_NONE: Mapping[str, int] = MappingProxyType({})
_NO_EXPERTS: Mapping[int, list[int]] = MappingProxyType({})


@dataclass(slots=True)
class Report:
    """What happened since the start (counters) and since the last report (durations)."""

    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                *("prompt_computed", "prompt_cached", "prompt_loaded", "prompt_received"),
                *("generated", "preemptions"),
                *("bytes_sent", "bytes_received"),
                *("handoff_admitted", "handoff_aborted", "handoff_refused", "handoff_timed_out"),
                *("gpu_load_ns", "gpu_prefill_ns", "gpu_decode_ns", "gpu_idle_ns", "gpu_lost_ns"),
            ),
            0,
        )
    )
    step_s: list[float] = field(default_factory=list)
    transfer_s: list[float] = field(default_factory=list)
    exposed_s: list[float] = field(default_factory=list)
    due: float = 0.0
    """When the next report may be sent, on the core's clock."""
    changed: bool = True

    def add(self, counter: str, count: int = 1) -> None:
        """Count something."""
        self.counters[counter] += count
        self.changed = True

    def due_at(self, quiet_s: float) -> float:
        """Return when the next report is to be sent: `quiet_s` later when there is no news."""
        return self.due if self.changed else self.due + quiet_s

    def stats(
        self,
        scheduler: Scheduler,
        remote: int,
        now: float,
        offload: Mapping[str, int] = _NONE,
        experts: Mapping[int, list[int]] = _NO_EXPERTS,
    ) -> Stats:
        """Return the message for the front and start the next interval."""
        waiting = scheduler.waiting
        message = Stats(
            running=len(scheduler.running),
            waiting=len(waiting) + remote,
            remote=remote,
            waiting_prompt_tokens=waiting_tokens(waiting),
            blocks=scheduler.pool.counts(),
            counters=dict(self.counters),
            offload=dict(offload),
            experts=dict(experts),
            step_s=tuple(self.step_s),
            transfer_s=tuple(self.transfer_s),
            exposed_s=tuple(self.exposed_s),
        )
        for durations in (self.step_s, self.transfer_s, self.exposed_s):
            durations.clear()
        self.due = now + INTERVAL_S
        self.changed = False
        return message
