"""Compiles the C++ kernels once per source, compiler and processor, into the cache folder."""

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

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("cpu.cpp")
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
_COMPILE_DEADLINE_S = 300.0


class NoCompilerError(WorkerError):
    """No C++ compiler, or it refused the kernels: the slower torch paths serve instead."""


def library(cache: Path) -> ctypes.CDLL:
    """Return the compiled kernels, compiling them when this processor's build is not in `cache` yet.

    Import torch first: both then share one OpenMP runtime, and so one pool of threads.

    Raises:
        NoCompilerError: there is no C++ compiler or it failed; the message has its last lines.
    """
    compiler = shlex.split(os.environ.get("CXX", "")) or _default_compiler()
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
        failure = built
    raise NoCompilerError(f"the C++ compiler {compiler[0]!r} refused the CPU kernels: {failure}")


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


def _compile(compiler: list[str], flags: tuple[str, ...], target: Path) -> ctypes.CDLL | str:
    """Compile into `target` by way of a rename; return the library, or the compiler's complaint."""
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
    return ctypes.CDLL(str(target))


def _make(folder: Path) -> bool:
    """Make the folder; return whether something can be put into it. A cache may be mounted to be read only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
