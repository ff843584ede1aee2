"""The text of our go.mod files and the arguments of the Go tool: pure functions, nothing is run here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from e2e.cluster.versions import STAGING, Module, Program

if TYPE_CHECKING:
    from collections.abc import Iterable

_REPLACED = re.compile(r"^\s*(?:replace\s+)?(\S+)(?: v\S+)? => (\S+)(?: (v\S+))?\s*$", re.MULTILINE)
_STAGING_FOLDER = "./staging/"


def replacements(upstream: str) -> tuple[str, ...]:
    """Return the `replace` lines that a module needs outside of its repository, sorted, given its own go.mod.

    Go follows those lines in the main module only, which is ours. A library in a `staging` folder, as Kubernetes has
    them, is taken as it is published.
    """
    found = set()
    for path, target, version in _REPLACED.findall(upstream):
        if version:
            found.add(f"{path} => {target} {version}")
        elif target.startswith(_STAGING_FOLDER):
            found.add(f"{path} => {path} {STAGING}")
    return tuple(sorted(found))


def module_text(module: Module, *, replaced: Iterable[str] = ()) -> str:
    """Return a go.mod that requires `module` and nothing else; the Go tool adds what follows from it.

    A go.mod of our own is needed because `go install PACKAGE@VERSION` refuses modules with `replace` lines, and
    Kubernetes, etcd and KEDA have such. `headrace.invalid` can never be a real module.
    """
    lines = [f"module headrace.invalid/{module.name}", "", "go 1.24.0", "", f"require {module.path} {module.version}"]
    indented = [f"\t{line}" for line in replaced]
    if indented:
        lines += ["", "replace (", *indented, ")"]
    return "\n".join(lines) + "\n"


def get_arguments(program: Program) -> list[str]:
    """Return the arguments of `go` that record a program and its dependencies in our go.mod.

    The version is named although go.mod has it: without it the Go tool takes the newest one.
    """
    return ["get", "-tool", f"{program.package}@{program.module.version}"]


def build_arguments(program: Program, output: str) -> list[str]:
    """Return the arguments of `go` that build a program into the file `output`: static, stripped, no machine paths."""
    stamps = [f"-X {name}={value}" for name, value in program.module.stamps]
    return ["build", "-trimpath", "-ldflags", " ".join(["-s", "-w", *stamps]), "-o", output, program.package]
