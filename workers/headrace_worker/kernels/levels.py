"""Levels of processors that kernels are built for ahead of time: pure names, the best one first.

`native` asks for nothing that these lack: the source has paths for AVX-512, for AVX2 and for what every processor has.
"""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ARM: Final = frozenset({"arm64", "aarch64"})
_X86: Final[Mapping[str, frozenset[str]]] = {
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    "x86-64-v3": frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"}),
    "x86-64": frozenset(),
}
"""What `-march` calls them, and the flags of /proc/cpuinfo that each adds to the one below (x86-64 psABI)."""


def levels(machine: str) -> tuple[str, ...]:
    """Return the levels of an architecture, by the name that `platform.machine` gives it."""
    return ("armv8-a",) if machine in _ARM else tuple(_X86) if machine in {"x86_64", "AMD64"} else ()


def supported(machine: str, flags: frozenset[str]) -> tuple[str, ...]:
    """Return the levels that a processor with these flags has."""
    found: list[str] = []
    for level in reversed(levels(machine)):
        if not _X86.get(level, frozenset()) <= flags:
            break
        found.insert(0, level)
    return tuple(found)


def of_this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the levels that the processor has on which this runs; only the lowest where it does not say."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return supported(platform.machine(), frozenset(line.partition(":")[2].split()))
