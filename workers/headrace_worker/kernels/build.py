"""Compiles the C++ kernels once per source, compiler and processor, into the cache folder.

Images bring them compiled, for a few levels of processors: a pod may have no compiler, and its cache be read only.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from headrace_worker.errors import WorkerError
from headrace_worker.kernels import levels

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("cpu.cpp")
BUILT = Path(__file__).with_name("built")
"""Where images have what was compiled ahead of time."""
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
_COMPILE_DEADLINE_S = 300.0


class NoCompilerError(WorkerError):
    """No C++ compiler, or it refused the kernels: the slower torch paths serve instead."""


def library(cache: Path) -> ctypes.CDLL:
    """Return the compiled kernels, compiling them when this processor's build is not in `cache` yet.

    What was compiled ahead of time is taken in their place, unless `CXX` names a compiler. Import torch first: both
    then share one OpenMP runtime, and so one pool of threads.

    Raises:
        NoCompilerError: there is no C++ compiler or it failed; the message has its last lines.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    if not chosen:
        for level in levels.of_this_machine():
            if (found := _load(_ahead(BUILT, level))) is not None:
                return found
    compiler = chosen or _default_compiler()
    for flags in _variants():
        target = cache / "kernels" / f"cpu-{_fingerprint(compiler, flags)}.so"
        if (found := _load(target)) is not None:
            return found
    failure = ""
    for flags in _variants():
        target = cache / "kernels" / f"cpu-{_fingerprint(compiler, flags)}.so"
        built = _compile(compiler, flags, target)
        if isinstance(built, ctypes.CDLL):
            return built
        failure = built or ""
    raise NoCompilerError(f"the C++ compiler {compiler[0]!r} refused the CPU kernels: {failure}")


def ahead(folder: Path) -> None:
    """Compile the kernels for every level of this architecture into a folder.

    Raises:
        NoCompilerError: as for `library`.
    """
    compiler = shlex.split(os.environ.get("CXX", "")) or _default_compiler()
    for level in levels.levels(platform.machine()):
        built = _compile(compiler, (*_FLAGS, f"-march={level}", "-fopenmp"), _ahead(folder, level), load=False)
        if isinstance(built, str):
            raise NoCompilerError(f"the C++ compiler {compiler[0]!r} refused the CPU kernels for {level}: {built}")


def _ahead(folder: Path, level: str) -> Path:
    return folder / f"cpu-{level}-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"


def _load(target: Path) -> ctypes.CDLL | None:
    """Return the library in the cache; None where it is absent, or damaged and to be built again."""
    if not target.exists():
        return None
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        logger.warning("compiling the CPU kernels again, the cached ones cannot be loaded: %s", error)
        return None


def _default_compiler() -> list[str]:
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise NoCompilerError("no C++ compiler was found (c++, g++ or clang++); install one, or set CXX to its path")


def _variants() -> list[tuple[str, ...]]:
    """Return the flag sets to try: with OpenMP, and without for compilers that lack it."""
    native = ("-mcpu=native",) if platform.machine() in {"arm64", "aarch64"} else ("-march=native",)
    return [(*_FLAGS, *native, "-fopenmp"), (*_FLAGS, *native)]


def _fingerprint(compiler: list[str], flags: tuple[str, ...]) -> str:
    parts = [SOURCE.read_bytes(), " ".join(compiler + list(flags)).encode(), _processor().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """Name what `native` depends on, so that a cache shared by unlike machines never serves the wrong build."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        wanted = ("model name", "flags", "Features", "CPU part")
        lines = {line for line in info.read_text().splitlines() if line.startswith(wanted)}
        return "\n".join(sorted(lines))
    return f"{platform.machine()} {platform.processor()}"


def _compile(
    compiler: list[str], flags: tuple[str, ...], target: Path, *, load: bool = True
) -> ctypes.CDLL | str | None:
    """Compile into `target` by way of a rename; return the library where it is to be loaded, or a complaint."""
    writable = _make(target.parent)
    with tempfile.TemporaryDirectory(prefix="headrace-", dir=target.parent if writable else None) as folder:
        draft = Path(folder) / "kernels.so"
        command = [*compiler, *flags, str(SOURCE), "-o", str(draft)]
        logger.info("compiling the CPU kernels: %s", shlex.join(command))
        try:
            done = subprocess.run(  # noqa: S603 - the compiler that the user or the system chose
                command, capture_output=True, text=True, timeout=_COMPILE_DEADLINE_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            return "\n".join(done.stderr.strip().splitlines()[-5:])
        if not writable:
            # The file may go once it is loaded. A fixed name in a folder that others share would be theirs to replace.
            return ctypes.CDLL(str(draft))
        draft.rename(target)
    return ctypes.CDLL(str(target)) if load else None


def _make(folder: Path) -> bool:
    """Make the folder; return whether something can be put into it. A cache may be mounted to be read only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
