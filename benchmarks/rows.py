"""Rows of results: one figure, its peer's from the same run, and whether the target was met."""

import contextlib
import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LATEST = Path(__file__).parent / "results" / "latest.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    `target` bounds the ratio of value to peer value: ("<=", 1.25), (">=", 2.0), or None where nothing is promised.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    target: tuple[str, float] | None = None

    @property
    def ratio(self) -> float | None:
        """Value over peer value."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Whether the ratio keeps the target; None where there is no target or no peer."""
        if self.target is None or self.ratio is None:
            return None
        sign, bound = self.target
        return self.ratio <= bound if sign == "<=" else self.ratio >= bound

    def record(self, command: str) -> dict[str, Any]:
        """Return the row as it is stored."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": _rounded(self.peer_value),
            "ratio": _rounded(self.ratio),
            "target": f"ratio {self.target[0]} {self.target[1]:g}" if self.target else None,
            "met": self.met,
            "command": command,
            "machine": machine(),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def machine() -> str:
    """Return a line about this machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def store(path: Path, rows: Sequence[Row], command: str) -> None:
    """Replace the rows of these names in the list at `path`, keep all others."""
    kept = json.loads(path.read_text()) if path.exists() else []
    own = {row.name for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [row for row in kept if row["name"] not in own] + [row.record(command) for row in rows]
    path.write_text(json.dumps(records, indent=2) + "\n")


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    print(f"{'':58}{'headrace':>11}{'peer':>11}{'ratio':>8}  target")
    for row in rows:
        peer_value = "-" if row.peer_value is None else f"{row.peer_value:.4g}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        target = "" if row.target is None else f"{row.target[0]} {row.target[1]:g}: {'met' if row.met else 'MISSED'}"
        print(f"{f'{row.name} ({row.unit})':58}{row.value:>11.4g}{peer_value:>11}{ratio:>8}  {target}")


def finish(made: Sequence[Row], out: Path | None, module: str) -> int:
    """Print the rows, store them where asked; return the exit status: 1 when a target is missed.

    Args:
        made: the rows.
        out: list of rows to add to, created when missing.
        module: that made them, named in the command that repeats them.
    """
    show(made)
    if out is not None:
        store(out, made, f"python -m benchmarks.{module}")
    return 0 if all(row.met is not False for row in made) else 1
