"""What kubectl is made to wait for."""

from pathlib import Path

import pytest
from e2e.cluster.errors import CommandError
from e2e.cluster.kubectl import Kubectl

NO_CONDITIONS = "error: .status.conditions accessor error: <nil> is of the type <nil>, expected []interface{}"


def program(folder: Path, message: str, failures: int) -> Kubectl:
    """Return a kubectl that fails so many times with a message."""
    path = folder / "kubectl"
    path.write_text(
        f'#!/bin/sh\nprintf x >> {folder}/calls\n[ "$(wc -c < {folder}/calls)" -gt {failures} ] && exit 0\n'
        f'echo "{message}" >&2\nexit 1\n'
    )
    path.chmod(0o755)
    return Kubectl(path, folder / "kubeconfig")


def test_definitions_without_conditions_are_waited_for(tmp_path: Path) -> None:
    program(tmp_path, NO_CONDITIONS, failures=2).await_served("crd/a", timeout_s=30)
    assert (tmp_path / "calls").read_text() == "xxx"


def test_another_failure_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such thing"):
        program(tmp_path, "no such thing", failures=1).await_served("crd/a", timeout_s=30)
    assert (tmp_path / "calls").read_text() == "x"
