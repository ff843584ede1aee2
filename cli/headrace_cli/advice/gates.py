"""The thresholds that a gate's file has, as settings to compare."""

from pathlib import Path
from typing import Final

from headrace_cli.advice.piece import Setting
from headrace_cli.errors import UsageError
from headrace_router.cascade.errors import CascadeError
from headrace_router.cascade.file import read_gate
from headrace_router.cascade.gate import Gate

BETWEEN: Final = frozenset(
    [*(percent / 100 for percent in range(5, 90, 5)), *(percent / 100 for percent in range(90, 100))]
)
"""Targets that are looked at beside those of the file: a router takes any, and between two it interpolates as we do."""


def settings_of(path: Path) -> list[Setting]:
    """Return settings over the targets that a gate has thresholds for; raise UsageError where it cannot be used."""
    try:
        file = read_gate(path)
    except CascadeError as error:
        raise UsageError(str(error)) from error
    gate, settings = Gate(file), []
    own = {one.target for stage in (file.prefix, file.whole) for one in stage.thresholds}
    for target in sorted(own | BETWEEN):
        try:
            prefix, whole = gate.threshold(target, prefix=True), gate.threshold(target)
        except CascadeError:
            continue  # below or above all that one of its stages knows
        settings.append(Setting(f"target {target:g}", prefix, whole, is_own=target in own))
    if not settings:
        raise UsageError(f"{path} has no target that it knows for first tokens and for whole answers alike")
    return settings
