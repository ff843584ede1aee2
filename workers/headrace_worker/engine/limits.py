"""What this process's control group lets it have, in version 1 and version 2 of control groups.

A container sees the whole node's processors and memory; taking them all gets it throttled or killed. A bound on any
level above holds too, so all of them are read.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the control group; None where it sets none."""

    processors: float | None = None
    """As a share of time: 1.5 is one and a half processors."""
    memory_bytes: int | None = None
    memory_left_bytes: int | None = None
    """What may still be taken; file contents that are only cached count as free."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The files of one version."""

    limit: str
    used: str
    cached: str
    """Key in `memory.stat`."""


_NAMES_1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_NAMES_2 = _Names("memory.max", "memory.current", "inactive_file")


def read_limits(root: Path = ROOT, own: Path = OWN) -> Limits:
    """Return the bounds of the process that `own` describes, below the mount `root`."""
    paths = dict(_memberships(own))
    if (root / "cgroup.controllers").exists():
        folders = _levels(root, paths.get("", "/"))
        return Limits(_least(map(_quota_2, folders)), *_memory(folders, _NAMES_2))
    memory = _levels(root / "memory", paths.get("memory", "/"))
    processors = _levels(root / "cpu", paths.get("cpu", "/"))
    return Limits(_least(map(_quota_1, processors)), *_memory(memory, _NAMES_1))


def count_processors(limits: Limits) -> int:
    """Return how many threads compute without being throttled: the affinity, bounded by the control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return allowed if limits.processors is None else max(1, min(allowed, int(limits.processors)))


def _memberships(own: Path) -> Iterator[tuple[str, str]]:
    """Yield (controller, path) of each line `number:controllers:path`; version 2 names no controllers."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _levels(mount: Path, path: str) -> list[Path]:
    """Return the group's folder and all above it, up to the mount.

    In a container the mount often shows the group itself while the path is the node's: then the mount alone is left.
    """
    folder = mount / path.lstrip("/")
    if ".." in folder.parts or not folder.is_dir():
        return [mount]
    return [folder, *(above for above in folder.parents if above.is_relative_to(mount))]


def _memory(folders: list[Path], names: _Names) -> tuple[int | None, int | None]:
    bounds = [bound for folder in folders if (bound := _bound(folder, names)) is not None]
    limit = _least(limit for limit, _ in bounds)
    left = _least(left for _, left in bounds)
    return limit, None if left is None else max(0, left)


def _bound(folder: Path, names: _Names) -> tuple[int, int] | None:
    """Return limit and what is left of it on one level; None where that sets no limit."""
    limit, used = _number(folder / names.limit), _number(folder / names.used)
    if limit is None or used is None:
        return None
    return limit, limit - used + _cached(folder / "memory.stat", names.cached)


def _cached(stat: Path, key: str) -> int:
    try:
        return next(int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith(key + " "))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def _quota_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, or `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)
