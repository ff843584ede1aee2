"""A thin wrapper around runc for machines whose processes lack CAP_SYS_RESOURCE; run as a program of its own.

A privileged container asks for all capabilities and for a protection from the out-of-memory killer. Where the container
engine itself lacks CAP_SYS_RESOURCE, runc can give neither, and refuses ("unable to apply caps"). The wrapper takes
both wishes out of the specification and hands over to runc. Only the standard library, for it starts on each call.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

CAPABILITY: Final = "CAP_SYS_RESOURCE"
_CAPABILITY_BIT: Final = 24


def is_needed(status: str) -> bool:
    """Say whether the capability is missing, given the text of `/proc/self/status`."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return not int(value, 16) >> _CAPABILITY_BIT & 1
    return False


def without_capability(process: dict[str, Any]) -> dict[str, Any]:
    """Return the `process` part of an OCI specification without the capability and without a negative OOM score."""
    sets = process.get("capabilities") or {}
    lowered = dict(process)
    if sets:
        lowered["capabilities"] = {
            name: [each for each in members or () if each != CAPABILITY] for name, members in sets.items()
        }
    if process.get("oomScoreAdj", 0) < 0:
        lowered["oomScoreAdj"] = 0
    return lowered


def specification(arguments: list[str]) -> Path | None:
    """Return the file that holds the process which a call of runc is about to start, or None where it starts none."""
    for option in ("--process", "-p"):
        if "exec" in arguments and (value := _value(arguments, option)) is not None:
            return Path(value)
    if "create" in arguments or "run" in arguments:
        bundle = _value(arguments, "--bundle") or _value(arguments, "-b") or "."
        return Path(bundle) / "config.json"
    return None


def wrapper_text(python: str, module: str) -> str:
    """Return the shell script that the engine starts in place of runc."""
    return f'#!/bin/sh\nexec "{python}" -I -S "{module}" "$@"\n'


def _value(arguments: list[str], option: str) -> str | None:
    for position, argument in enumerate(arguments):
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def main(arguments: list[str]) -> None:
    """Edit the specification where there is one, then become runc."""
    file = specification(arguments)
    if file is not None and file.exists():
        written = json.loads(file.read_text())
        is_bundle = file.name == "config.json"
        process = without_capability(written["process"] if is_bundle else written)
        file.write_text(json.dumps({**written, "process": process} if is_bundle else process))
    os.execvp("runc", ["runc", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
