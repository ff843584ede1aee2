"""One step as it travels to the other ranks: everything but how tokens are drawn, which is rank 0's alone."""

from collections.abc import Callable

from headrace_api.sampling import Sampling
from headrace_worker.parallel.messages import Step, StepRow, StepWritten
from headrace_worker.runner.work import Draw, Row, Work, Written

_SOME_DRAW = Draw(Sampling(max_tokens=1), 0, (), ())


def step_of(work: Work) -> Step:
    """Return the message for the other ranks."""
    return Step(
        tuple(StepRow(tuple(row.tokens), row.start, tuple(row.blocks), row.draw is not None) for row in work.rows),
        tuple(StepWritten(one.attempt, one.first, tuple(one.blocks)) for one in work.written),
    )


def work_of(step: Step, on_layer: Callable[[int], None] | None = None) -> Work:
    """Return what another rank computes."""
    rows = [Row(row.tokens, row.start, row.blocks, _SOME_DRAW if row.draws else None) for row in step.rows]
    return Work(rows, on_layer)


def written_of(step: Step) -> list[Written]:
    """Return what of a step other workers wait for."""
    return [Written(one.attempt, one.first, one.blocks) for one in step.written]
