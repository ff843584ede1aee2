"""The worker as the first process of a container: its signals, its orphans, its end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

SCRIPT = Path(__file__).with_name("start_front.py")
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
ADOPTER = """
import ctypes, os, subprocess
from headrace_worker.server.orphans import reap
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come here
orphan = int(subprocess.run(["sh", "-c", "sleep 0.3 & echo $!"], capture_output=True, check=True).stdout)
os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
own = subprocess.Popen(["sh", "-c", "exit 7"])
reap(own.pid)
os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
reap(own.pid)
gone = not os.path.exists(f"/proc/{orphan}")
print("orphan", "reaped," if gone else "stayed,", "own child ended with", own.wait(10))
"""
Until = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.processes


class Container:
    """A process and what it starts, in a namespace of processes of their own."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder)}
            self.process = subprocess.Popen([*NAMESPACE, *command], stderr=log, env=environment)

    def first(self) -> psutil.Process | None:
        """The container's first process."""
        return next(iter(psutil.Process(self.process.pid).children()), None)

    def signal(self, number: int) -> None:
        first = self.first()
        assert first is not None
        first.send_signal(number)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    probe = [*NAMESPACE, "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine makes no namespace of processes")
    started: list[Container] = []

    def start(*command: str) -> Container:
        started.append(Container(tmp_path, *command))
        return started[-1]

    yield start
    for container in started:
        container.process.kill()
        container.process.wait(10)


@pytest.fixture
def worker(run: Callable[..., Container], model_dir: Path, tmp_path: Path, until: Until) -> tuple[Container, str]:
    """A ready worker in a container, and its URL."""
    ready = tmp_path / "ready.json"
    settings = {"model": f"file://{model_dir}", "name": "tiny", "ready_file": str(ready), "max_model_len": 4096}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    container = run(sys.executable, str(SCRIPT), str(tmp_path / "settings.json"))
    until(ready.exists)
    listening = json.loads(ready.read_text())
    assert listening["pid"] == 1
    until(lambda: httpx.get(f"{listening['url']}/ready").status_code == 200)
    return container, listening["url"]


def test_sigterm_drains_and_ends_with_status_0_and_nothing_is_left(worker: tuple[Container, str], until: Until) -> None:
    container, url = worker
    first = container.first()
    assert first is not None
    (core,) = first.children()
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    begun = threading.Event()

    def ask() -> bytes:
        data = b""
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as answer:
            for part in answer.iter_raw():
                data += part
                begun.set()
        return data

    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask)
        assert begun.wait(20)
        container.signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/ready").status_code == 503)
        assert running.result(30).endswith(b"data: [DONE]\n\n")
    assert container.process.wait(20) == 0
    assert not core.is_running()


def test_what_others_leave_behind_is_reaped(worker: tuple[Container, str], until: Until) -> None:
    container, url = worker
    first = container.first()
    assert first is not None
    # As an exec into the container does whose own child outlives it.
    enter = ["nsenter", "--target", str(first.pid), "--pid", "sh", "-c", "sleep 0.2 & exec true"]
    assert subprocess.run(enter, timeout=10, check=False).returncode == 0
    until(lambda: len(first.children()) == 2)
    until(lambda: len(first.children()) == 1)
    assert httpx.get(f"{url}/health").status_code == 200


def test_sigterm_before_anything_is_loaded_ends_the_worker_at_once(run: Callable[..., Container], until: Until) -> None:
    container = run(sys.executable, "-m", "headrace_worker", "--model", "file:///nowhere", "--name", "x")
    until(lambda: (first := container.first()) is not None and _handles(first.pid, signal.SIGTERM))
    began_s = time.monotonic()
    container.signal(signal.SIGTERM)
    assert container.process.wait(10) in (128 + signal.SIGTERM, 2), "2: it had just found that the model is not there"
    assert time.monotonic() - began_s < 5


def test_the_child_that_somebody_waits_for_is_not_reaped() -> None:
    done = subprocess.run([sys.executable, "-c", ADOPTER], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "orphan reaped, own child ended with 7\n"), done.stderr


def _handles(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)
