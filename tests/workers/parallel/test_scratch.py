"""Folders of nodes: held while a node lives, swept after one that was killed."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headrace_worker.parallel.scratch import PREFIX, scratch


@pytest.fixture(autouse=True)
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_goes_with_the_node(below: Path) -> None:
    with scratch() as folder:
        assert folder.is_dir()
    assert list(below.iterdir()) == []


def test_a_folder_of_a_node_that_lives_is_left_alone(below: Path) -> None:
    with scratch() as one, scratch() as other:
        assert set(below.iterdir()) == {one, other}


def test_what_a_killed_node_left_is_swept(below: Path) -> None:
    killed = "import os, signal\nfrom headrace_worker.parallel.scratch import scratch\n"
    killed += "with scratch() as folder:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    environment = {"TMPDIR": str(below), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", killed], env=environment, timeout=60, check=False)
    (left,) = below.glob(f"{PREFIX}*")
    with scratch() as folder:
        assert list(below.iterdir()) == [folder] != [left]


def test_a_folder_that_is_being_made_is_left_alone(below: Path) -> None:
    (below / f"{PREFIX}young").mkdir()
    with scratch() as folder:
        assert set(below.iterdir()) == {folder, below / f"{PREFIX}young"}
