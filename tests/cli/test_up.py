"""`headrace up` as a process: what it prints, how it ends, and what it leaves behind."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")]

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / name) for name in ("cli", "crds", "operator", "router", "workers")]
SCRIPT = str(Path(__file__).with_name("up_with_fakes.py"))
DEADLINE_S = 20.0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(done: Callable[[], bool]) -> None:
    """Wait for a condition on processes that this one is not the parent of."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Up:
    """A running `headrace up` whose lines are read as they come."""

    def __init__(self, folder: Path, model: str, *flags: str) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        (folder / "run").mkdir()
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(folder / "run"), str(self.state), model, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS), "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def until(self, text: str) -> str:
        """Return the first new line that contains `text`."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            line = self._fresh.get(timeout=max(0.01, deadline - time.monotonic()))
            assert line is not None, "\n".join([f"ended without {text!r}:", *self.lines])
            self.lines.append(line)
            if text in line:
                return line

    def end(self) -> int:
        """Return the exit status, with all lines read."""
        status = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        while (line := self._fresh.get(timeout=1)) is not None:
            self.lines.append(line)
        return status

    def pids(self) -> list[int]:
        """Process ids of every leader and grandchild there ever was."""
        journal = self.folder / "run" / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [int(pid) for line in lines if " started " in line for pid in line.split()[2:4]]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for pid in filter(alive, self.pids()):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(model: str = "fake:", *flags: str) -> Up:
        started.append(Up(tmp_path, model, *flags))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_it_prints_the_address_and_a_curl_line_and_drains_on_ctrl_c(up: Callable[..., Up]) -> None:
    it = up()
    it.until("hand-off chat-prefill-0 → chat-decode-0: verified")
    address = it.until("Serving chat at http://127.0.0.1:")
    curl = it.until("curl -N http://127.0.0.1:")
    assert '"model": "chat"' in curl
    assert '"stream": true' in curl
    it.until("Ctrl-C")
    state = json.loads(it.state.read_text())
    assert state["router"]["url"] in address
    assert [one["role"] for one in state["workers"]] == ["prefill", "decode"]
    it.process.send_signal(signal.SIGINT)
    assert it.end() == 0
    assert not any(alive(pid) for pid in it.pids())
    assert not it.state.exists()
    assert {"router: ended", "chat-decode-0: ended", "chat-prefill-0: ended"} <= set(it.lines)


def test_sigterm_is_a_ctrl_c(up: Callable[..., Up]) -> None:
    it = up()
    it.until("Ctrl-C")
    it.process.send_signal(signal.SIGTERM)
    assert it.end() == 0
    assert not any(alive(pid) for pid in it.pids())


def test_ctrl_c_while_it_starts_ends_it(up: Callable[..., Up]) -> None:
    it = up()
    it.until("chat-prefill-0: starting")
    it.process.send_signal(signal.SIGINT)
    assert it.end() == 0
    assert not any(alive(pid) for pid in it.pids())


def test_a_second_ctrl_c_ends_at_once(up: Callable[..., Up]) -> None:
    it = up("fake:stubborn")
    it.until("Ctrl-C")
    it.process.send_signal(signal.SIGINT)
    it.until("router: ended")
    it.process.send_signal(signal.SIGINT)
    assert it.end() == 130
    assert not any(alive(pid) for pid in it.pids())
    assert it.lines[-1] == "ended at once"


def test_a_crash_loop_ends_it_with_a_sentence_and_the_log(up: Callable[..., Up]) -> None:
    it = up("fake:crash")
    assert it.end() == 1
    text = "\n".join(it.lines)
    assert "exited with code 1 (3 times in a row) and does not start; the last lines of its log:" in text
    assert "the cheese is out" in text
    assert "Traceback" not in text
    assert not any(alive(pid) for pid in it.pids())


def test_refused_settings_end_it_at_the_first_time(up: Callable[..., Up]) -> None:
    it = up("fake:refused")
    assert it.end() == 1
    assert "exited with code 2 and does not start" in "\n".join(it.lines)


def test_a_killed_worker_is_told_and_comes_back(up: Callable[..., Up]) -> None:
    it = up()
    it.until("Ctrl-C")
    pids = {one["worker"]: one["pid"] for one in json.loads(it.state.read_text())["workers"]}
    os.kill(pids["chat-prefill-0"], signal.SIGKILL)
    it.until("chat-prefill-0: was killed by SIGKILL; starting again in 0.05 s")
    it.until("all is ready again")
    again = {one["worker"]: one["pid"] for one in json.loads(it.state.read_text())["workers"]}
    assert again["chat-prefill-0"] != pids["chat-prefill-0"]
    assert again["chat-decode-0"] == pids["chat-decode-0"]


def test_logs_are_streamed_on_request(up: Callable[..., Up]) -> None:
    it = up("fake:", "--logs")
    it.until("chat-decode-0 | chat-decode-0 listens")


def test_nothing_outlives_it_even_when_it_is_killed(up: Callable[..., Up]) -> None:
    it = up()
    it.until("Ctrl-C")
    pids = it.pids()
    it.process.kill()
    it.process.wait(DEADLINE_S)
    eventually(lambda: not any(alive(pid) for pid in pids))
