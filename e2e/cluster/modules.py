"""The text of our go.mod files and the arguments of the Go tool: pure functions, nothing is run here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from e2e.cluster.versions import KUBERNETES_MODULE, STAGING, Module, Program

if TYPE_CHECKING:
    from collections.abc import Iterable

_STAGING_LINE = re.compile(r"^\s*(?:replace\s+)?(k8s\.io/[\w./-]+) => \./staging/", re.MULTILINE)


def staging_paths(upstream: str) -> tuple[str, ...]:
    """Return the libraries that a Kubernetes go.mod takes from its own `staging` folder, sorted.

    Outside of its repository that folder does not exist, so each of them must be replaced by what is published.
    """
    return tuple(sorted(set(_STAGING_LINE.findall(upstream))))


def module_text(module: Module, *, staging: Iterable[str] = ()) -> str:
    """Return a go.mod that requires `module` and nothing else; the Go tool adds what follows from it.

    A go.mod of our own is needed because `go install PACKAGE@VERSION` refuses modules with `replace` lines, and
    Kubernetes and etcd have such. `headrace.invalid` can never be a real module.
    """
    lines = [f"module headrace.invalid/{module.name}", "", "go 1.24.0", "", f"require {module.path} {module.version}"]
    replaced = [f"\t{path} => {path} {STAGING}" for path in staging]
    if replaced:
        lines += ["", "replace (", *replaced, ")"]
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


def needs_staging(module: Module) -> bool:
    """Say whether a module's go.mod points into its own repository by `staging` lines."""
    return module == KUBERNETES_MODULE
