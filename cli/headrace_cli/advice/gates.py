"""The thresholds that a gate's file has, as settings to compare."""

from pathlib import Path

from headrace_cli.advice.piece import Setting
from headrace_cli.errors import UsageError
from headrace_router.cascade.errors import CascadeError
from headrace_router.cascade.file import read_gate
from headrace_router.cascade.gate import Gate


def settings_of(path: Path) -> list[Setting]:
    """Return a setting for each target that a gate has thresholds for; raise UsageError where it cannot be used."""
    try:
        file = read_gate(path)
    except CascadeError as error:
        raise UsageError(str(error)) from error
    gate, settings = Gate(file), []
    targets = sorted({one.target for stage in (file.prefix, file.whole) for one in stage.thresholds})
    for target in targets:
        try:
            prefix, whole = gate.threshold(target, prefix=True), gate.threshold(target)
        except CascadeError:
            continue  # one of its stages knows less of this target than the other
        settings.append(Setting(f"target {target:g}", prefix, whole))
    if not settings:
        raise UsageError(f"{path} has no target that it knows for first tokens and for whole answers alike")
    return settings
