"""`python -m headrace_worker.fetch`, as a Job runs it, and workers that may only read what it fetched."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "headrace_worker.fetch")
FOLDER = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"w" * 300_000}
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'

pytestmark = pytest.mark.usefixtures("cache")


def fetch(uri: str, *, prefix: Sequence[str] = (), **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in this test's environment."""
    return subprocess.run(
        [*prefix, *COMMAND, uri],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )


@pytest.fixture
def read_only(cache: Path) -> list[str]:
    """Return what runs a command that can read the cache and not write it, as a pod does."""
    if os.geteuid() != 0:
        for path in (cache, *cache.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        return []
    cache.mkdir(parents=True, exist_ok=True)
    prefix = ["unshare", "--mount", "sh", "-c", READ_ONLY, str(cache)]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine lets root mount nothing, and root may write any folder that is not mounted read-only")
    return prefix


def test_standard_output_is_the_path_and_progress_goes_to_standard_error(hub: Any) -> None:
    hub.publish(FOLDER)
    done = fetch("hf://org/name")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.removesuffix("\n"))
    assert (path / "model.safetensors").read_bytes() == FOLDER["model.safetensors"]
    assert "hf://org/name: 0.3 of 0.3 MiB (100 %)" in done.stderr


@pytest.mark.parametrize("uri", ["s3://bucket/x", "hf://org/other", "file:///nowhere", "hf://malformed"])
def test_what_can_never_be_had_exits_2_with_one_sentence(hub: Any, uri: str) -> None:
    hub.publish(FOLDER)
    done = fetch(uri)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_what_another_try_may_bring_exits_1_with_one_sentence(hub: Any) -> None:
    hub.publish(FOLDER, token="hf_s3cret")
    done = fetch("hf://org/name")
    assert (done.returncode, done.stdout) == (1, "")
    assert "HF_TOKEN" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_worker_that_may_only_read_the_cache_finds_what_was_fetched_offline(hub: Any, request: Any) -> None:
    hub.publish(FOLDER)
    first = fetch("hf://org/name")
    prefix = request.getfixturevalue("read_only")
    asked = len(hub.server.seen)
    again = fetch("hf://org/name", prefix=prefix)
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    # Workers need not know the mirror that the Job was told of.
    elsewhere = fetch("hf://org/name", prefix=prefix, HF_ENDPOINT="")
    assert (elsewhere.returncode, elsewhere.stdout) == (0, first.stdout), elsewhere.stderr
    assert len(hub.server.seen) == asked


def test_a_cache_that_may_only_be_read_and_lacks_the_model_says_how_to_fill_it(hub: Any, read_only: list[str]) -> None:
    hub.publish(FOLDER)
    done = fetch("hf://org/name", prefix=read_only)
    assert done.returncode == 1
    assert "python -m headrace_worker.fetch" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_local_model_needs_no_cache_that_can_be_written(tmp_path: Path, read_only: list[str]) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    done = fetch(f"file://{tmp_path}/a.gguf", prefix=read_only)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/a.gguf\n"), done.stderr


def test_sigterm_ends_a_fetch_although_it_is_the_first_process_of_its_container(hub: Any, tmp_path: Path) -> None:
    prefix = ["unshare", "--pid", "--fork", "--kill-child"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine makes no namespace of processes")
    hub.publish(FOLDER)
    hub.server.hold.clear()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*prefix, *COMMAND, "hf://org/name"], stderr=log)
        try:
            assert hub.server.asked.wait(30)
            child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
            os.kill(child, signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
        finally:
            hub.server.hold.set()
            process.kill()
            process.wait(10)
