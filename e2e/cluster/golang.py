"""Builds programs from Go modules: each once, kept in the cache, asked for by name."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import Progress, capture, labour
from e2e.cluster.errors import MissingError
from e2e.cluster.modules import build_arguments, get_arguments, module_text, replacements
from e2e.cluster.versions import PROGRAMS, Module, Program
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.cluster.home import Home

_ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOWORK": "off"}
_BUILD_TIMEOUT_S: Final = 3600.0
_DOWNLOAD_TIMEOUT_S: Final = 900.0


def ensure_programs(home: Home, names: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Return the paths of the named programs, built in this order where the cache lacks them."""
    home.root.mkdir(parents=True, exist_ok=True)
    return {name: _ensure(home, PROGRAMS[name], progress) for name in names}


def ensure_source(home: Home, source: Path, progress: Progress) -> Path:
    """Return the path of the program built from one Go file of ours that needs the standard library only."""
    target = home.programs / source.stem
    if target.is_file():
        return target
    with FileLock(home.build_lock):
        home.programs.mkdir(parents=True, exist_ok=True)
        labour(
            [_go(), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(target), str(source)],
            log=home.build_logs / f"{source.stem}.log",
            timeout_s=_BUILD_TIMEOUT_S,
            progress=progress,
            what=source.stem,
            environment=_ENVIRONMENT,
        )
    return target


def module_folder(module: Module) -> Path:
    """Return the folder of a module's source in Go's own cache, downloaded where it is missing."""
    answer = capture(
        [_go(), "mod", "download", "-json", f"{module.path}@{module.version}"],
        timeout_s=_DOWNLOAD_TIMEOUT_S,
        environment=_ENVIRONMENT,
    )
    return Path(json.loads(answer)["Dir"])


def _ensure(home: Home, program: Program, progress: Progress) -> Path:
    target = home.program(program)
    if not target.is_file():
        with FileLock(home.build_lock):
            if not target.is_file():
                _build(home, program, target, progress)
    return target


def _build(home: Home, program: Program, target: Path, progress: Progress) -> None:
    go = _go()
    progress(f"building {program.name} {program.module.version}")
    started = time.monotonic()
    folder = _workshop(home, program.module)
    fresh = folder / f"{program.name}.new"
    for arguments in (get_arguments(program), build_arguments(program, str(fresh))):
        labour(
            [go, *arguments],
            log=home.build_logs / f"{program.name}.log",
            timeout_s=_BUILD_TIMEOUT_S,
            progress=progress,
            what=f"{program.name}, go {arguments[0]}",
            folder=folder,
            environment=_ENVIRONMENT,
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh.replace(target)
    progress(f"built {program.name} in {time.monotonic() - started:.0f} s")


def _workshop(home: Home, module: Module) -> Path:
    folder = home.module_parts(module) / "go" / module.name
    file = folder / "go.mod"
    if not file.exists():
        upstream = (module_folder(module) / "go.mod").read_text()
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(module_text(module, replaced=replacements(upstream)))
    return folder


def _go() -> str:
    found = shutil.which("go")
    if found is None:
        raise MissingError(
            "The Go toolchain ('go', 1.24 or newer) was not found; the cluster's programs are built with it. "
            "Install Go, or use a cluster of your own: make cluster-up CLUSTER=existing with KUBECONFIG set."
        )
    return found
