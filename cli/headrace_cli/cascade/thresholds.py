"""The thresholds of a model: chosen on judged rows, written among those that it has."""

from collections.abc import Iterable, Mapping

import msgspec

from headrace_cli.cascade.figures import PREFIX, WHOLE, Judged
from headrace_router.cascade import threshold
from headrace_router.cascade.file import DifficultyFile, GateFile, Threshold

TARGETS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Of a gate: dense enough that a router may interpolate between them."""


def choose(rows: Judged, target: float) -> Threshold:
    """Return the threshold that recovers a share of the gap on these rows; there must be a gap."""
    return threshold.choose(rows.predicted, rows.gains, target)


def added(
    model: DifficultyFile | GateFile, rows: Mapping[str, Judged], targets: Iterable[float]
) -> DifficultyFile | GateFile:
    """Return the model with thresholds for the targets, in place of those it had for them.

    Args:
        model: what judged.
        rows: by stage; a gate has `WHOLE` and `PREFIX`.
        targets: shares of the gap.
    """
    wanted = tuple(targets)
    if isinstance(model, GateFile):
        stages = {
            stage: msgspec.structs.replace(part, thresholds=_merged(part.thresholds, rows[stage], wanted))
            for stage, part in ((WHOLE, model.whole), (PREFIX, model.prefix))
        }
        return msgspec.structs.replace(model, **stages)
    (one,) = rows.values()
    return msgspec.structs.replace(model, thresholds=_merged(model.thresholds, one, wanted))


def _merged(old: Iterable[Threshold], rows: Judged, targets: tuple[float, ...]) -> tuple[Threshold, ...]:
    kept = [one for one in old if one.target not in targets]
    chosen = [choose(rows, target) for target in targets]
    return tuple(sorted([*kept, *chosen], key=lambda one: one.target))
