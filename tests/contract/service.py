"""`headrace up` as a user runs it, watched from outside: state file, workers' metrics, what it leaves behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from headrace_api import names

ROOT = Path(__file__).parents[2]
PACKAGES = [str(ROOT / name) for name in ("cli", "crds", "operator", "router", "workers")]
START_S = 180.0
"""A start loads weights; on a machine that does other things too it takes a multiple of its usual 15 s."""
RECOVER_S = 90.0
END_S = 60.0


def eventually(condition: Callable[[], object], what: str, deadline_s: float = RECOVER_S) -> None:
    """Wait for a condition on other processes; fail with `what` after the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Worker:
    """One entry of the state file."""

    name: str
    deployment: str
    role: str
    url: str
    pid: int
    incarnation: str

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; nan while the worker does not answer."""
        try:
            text = httpx.get(f"{self.url}/metrics", timeout=10, trust_env=False).text
        except httpx.HTTPError:
            return float("nan")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def blocks(self) -> dict[str, int]:
        """Return the number of KV blocks in each state, and `capacity`, from one answer."""
        text = httpx.get(f"{self.url}/metrics", timeout=10, trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = {sample.labels["state"]: int(sample.value) for sample in samples if sample.name == names.KV_BLOCKS}
        capacity = next(sample.value for sample in samples if sample.name == names.KV_BLOCKS_CAPACITY)
        return {**found, "capacity": int(capacity)}

    @property
    def busy(self) -> float:
        """Sequences that run or wait."""
        return self.metric(names.REQUESTS_RUNNING) + self.metric(names.REQUESTS_WAITING)

    def at_rest(self) -> bool:
        """Whether nothing runs and every block is free or cached."""
        blocks = self.blocks()
        return self.busy == 0 and blocks["free"] + blocks["cached"] == blocks["capacity"]


class Service:
    """One run of `headrace up`.

    Args:
        folder: for its files.
        resources: YAML.
        port: of the router.
    """

    def __init__(self, folder: Path, resources: str, port: int = 0) -> None:
        self.log = folder / "log"
        self._state_file = folder / "state.json"
        (folder / "resources.yaml").write_text(resources)
        self._memory_before = _shared_memory()
        self._seen: dict[int, psutil.Process] = {}
        flags = ("--port", str(port), "--state", str(self._state_file), "--logs")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace_cli", "up", str(folder / "resources.yaml"), *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGES), "PYTHONUNBUFFERED": "1"},
            )

    # --- what it says ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any] | None:
        """Return the state file; None before the first time that all was ready, and after the end."""
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_bytes())
        except FileNotFoundError:
            return None
        self.note_processes()
        return state

    def ready(self) -> bool:
        """Return whether all is ready; fail where `up` has ended instead."""
        assert self.process.poll() is None, self.last_lines()
        return self.state() is not None

    @property
    def url(self) -> str:
        """Base URL of the router."""
        state = self.state()
        assert state is not None, self.last_lines()
        return str(state["router"]["url"])

    @property
    def router_pid(self) -> int | None:
        """Process id of the router that listens now."""
        state = self.state()
        return None if state is None or state["router"] is None else int(state["router"]["pid"])

    def workers(self) -> list[Worker]:
        """Return the workers that may have traffic now."""
        state = self.state()
        assert state is not None, self.last_lines()
        fields = ("name", "deployment", "role", "url", "pid", "incarnation")
        return [Worker(*(one[field] for field in fields)) for one in state["workers"]]

    def worker(self, role: str, deployment: str | None = None) -> Worker:
        """Return the one worker of this role."""
        (found,) = [one for one in self.workers() if one.role == role and deployment in (None, one.deployment)]
        return found

    def replaced(self, old: Worker) -> bool:
        """Return whether a new process of this worker may have traffic: it is up and its hand-off is verified."""
        return any(one.name == old.name and one.incarnation != old.incarnation for one in self.workers())

    def await_rest(self) -> None:
        """Wait until no request runs and no block is active, granted or in quarantine, in any worker."""
        for worker in self.workers():
            eventually(worker.at_rest, f"{worker.name} is at rest", 30.0)

    def last_lines(self) -> str:
        """Return the end of what it and its workers said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    # --- what it leaves ----------------------------------------------------------------------------------------------

    def note_processes(self) -> None:
        """Remember the processes that it has now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                self._seen.setdefault(process.pid, process)

    def leftovers(self) -> list[str]:
        """Return what outlived it: processes, and shared memory that no process uses any more."""
        processes = [process for process in self._seen.values() if _lives(process)]
        memory = _shared_memory() - self._memory_before
        return [*map(str, processes), *sorted(memory - _shared_memory_in_use())]

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C does, unless it has ended; return its exit code."""
        self.note_processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)

    def kill(self) -> None:
        """Leave nothing running, whatever a test did."""
        self.note_processes()
        self.process.kill()
        for process in self._seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(END_S)


@contextlib.contextmanager
def serving(folder: Path, resources: str) -> Iterator[Service]:
    """Run a service until all is ready, end it afterwards, and prove that it ends well and leaves nothing."""
    service = Service(folder, resources)
    try:
        eventually(service.ready, "all is ready", START_S)
        yield service
        code = service.stop()
        assert code == 0, service.last_lines()
        assert service.leftovers() == []
        assert "Traceback" not in service.log.read_text(errors="replace"), service.last_lines()
    finally:
        service.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group(leader: int) -> list[int]:
    """Return the living processes of a group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader and _lives(process):
                found.append(process.pid)
    return found


def _shared_memory() -> set[str]:
    """Return the names of all shared memory of this machine: files, and segments of System V."""
    files = {str(path) for path in Path("/dev/shm").iterdir()} if Path("/dev/shm").is_dir() else set()
    return files | {f"segment {number}" for number, _ in _segments()}


def _shared_memory_in_use() -> set[str]:
    """Return what some living process has mapped or opened: it may be another program's."""
    used = {f"segment {number}" for number, attached in _segments() if attached}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used |= {
                line.split(maxsplit=5)[5] for line in (process / "maps").read_text().splitlines() if "/dev/" in line
            }
            used |= {str(link.readlink()) for link in (process / "fd").iterdir()}
    return used


def _segments() -> list[tuple[int, int]]:
    """Return number and attachments of each System V segment."""
    table = Path("/proc/sysvipc/shm")
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    return [(int(fields[1]), int(fields[6])) for fields in map(str.split, lines)]
