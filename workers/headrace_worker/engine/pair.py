"""Chooses the side of hand-offs that a worker plays."""

from collections.abc import Callable

from headrace_worker.engine.build import Engine
from headrace_worker.engine.handoff import Handoff
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.settings import WorkerSettings


def make_handoff(
    settings: WorkerSettings, engine: Engine, scheduler: Scheduler, report: Report, wake: Callable[[], None]
) -> tuple[Handoff, str]:
    """Return the hand-off side for the worker's role, and the address of its control socket."""
    return Handoff(), ""
