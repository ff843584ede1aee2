"""One step as it travels to the other ranks: everything but how tokens are drawn, which is rank 0's alone."""

from headrace_api.sampling import Sampling
from headrace_worker.parallel.messages import Step, StepRow
from headrace_worker.runner.work import Draw, Row, Work

_SOME_DRAW = Draw(Sampling(max_tokens=1), 0, (), ())


def step_of(work: Work) -> Step:
    """Return the message for the other ranks."""
    return Step(
        tuple(StepRow(tuple(row.tokens), row.start, tuple(row.blocks), row.draw is not None) for row in work.rows)
    )


def work_of(step: Step) -> Work:
    """Return what another rank computes."""
    return Work([Row(row.tokens, row.start, row.blocks, _SOME_DRAW if row.draws else None) for row in step.rows])
