"""What is seen of the processes from outside: memory, descriptors, blocks, preemptions."""

import contextlib
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.service import Service, Worker

from headrace_api import names

ANSWER_S = 5.0
MEMORY_GROWTH = 0.05
WINDOW_S = 20.0
"""Memory at a moment is the median of the samples of so many seconds around it."""


@dataclass(slots=True)
class Life:
    """One process as long as it was seen."""

    name: str
    process: psutil.Process
    samples: list[tuple[float, int]] = field(default_factory=list)
    """Seconds and resident bytes."""

    def at(self, moment_s: float) -> float | None:
        """Return its memory at a moment; None where it was not seen then."""
        near = [size for when_s, size in self.samples if abs(when_s - moment_s) <= WINDOW_S / 2]
        return statistics.median(near) if near else None


class Watch:
    """Samples of a service's processes and workers.

    Args:
        service: watched.
    """

    def __init__(self, service: Service) -> None:
        self.faults: list[str] = []
        self.memory: set[str] = set()
        """Shared memory that one of the processes has had mapped: names of files."""
        self._service = service
        self._lives: dict[int, Life] = {}
        self._preemptions: dict[str, float] = {}
        self._handoffs: dict[str, Counter[str]] = defaultdict(Counter)

    @property
    def preemptions(self) -> int:
        """Of all incarnations of all workers, as far as they were told before they died."""
        return round(sum(self._preemptions.values()))

    @property
    def handoffs(self) -> Counter[str]:
        """Attempts of decode workers by outcome."""
        return sum((self._handoffs[key] for key in self._handoffs), Counter())

    def sample(self, now_s: float) -> None:
        """Look once at every process and at every worker that answers."""
        for pid, name in self._processes().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                life = self._lives.get(pid)
                if life is None or not life.process.is_running():
                    life = self._lives[pid] = Life(name, psutil.Process(pid))
                life.samples.append((now_s, life.process.memory_info().rss))
                self.memory |= _mapped(pid)
        for worker in self._service.workers():
            with contextlib.suppress(httpx.HTTPError):
                self._look(worker)

    def growth(self, since_s: float, until_s: float) -> dict[str, float]:
        """Return by process how much its memory grew, for those that were there at both moments; 0.05 is 5 %."""
        found = {}
        for pid, life in self._lives.items():
            before, after = life.at(since_s), life.at(until_s)
            if before is not None and after is not None and life.process.is_running():
                found[f"{life.name} ({pid})"] = after / before - 1
        return found

    def descriptors(self) -> dict[str, Counter[str]]:
        """Return by process how many descriptors of each kind it has open."""
        found = {}
        for pid, name in self._processes().items():
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                found[f"{name} ({pid})"] = _descriptors(psutil.Process(pid))
        return found

    def _processes(self) -> dict[int, str]:
        state = self._service.state()
        if state is None:
            return {}
        found = {self._service.process.pid: "up"}
        if state["router"] is not None:
            found[state["router"]["pid"]] = "router"
        for one in state["workers"]:
            with contextlib.suppress(psutil.NoSuchProcess):
                found[one["pid"]] = f"{one['name']} front"
                found |= {child.pid: f"{one['name']} core" for child in psutil.Process(one["pid"]).children()}
        return found

    def _look(self, worker: Worker) -> None:
        """Read a worker's page; while its engine has said nothing yet, the page holds no blocks."""
        page = read(worker.url)
        blocks = {state: page.get((names.KV_BLOCKS, state), 0.0) for state in names.BLOCK_STATES}
        capacity = page.get((names.KV_BLOCKS_CAPACITY, ""), 0.0)
        if sum(blocks.values()) != capacity:
            self.faults.append(f"blocks of {worker.name} do not add up: {blocks} of {capacity}")
        self._preemptions[worker.incarnation] = page.get((f"{names.PREEMPTIONS}_total", ""), 0.0)
        if worker.role == "decode":
            outcomes = {
                label: round(value) for (name, label), value in page.items() if name == f"{names.HANDOFFS}_total"
            }
            self._handoffs[worker.incarnation] = Counter(outcomes)


def read(url: str) -> dict[tuple[str, str], float]:
    """Return the samples of a page of metrics by name and the value of their state or outcome, if they have one."""
    text = httpx.get(f"{url}/metrics", timeout=ANSWER_S, trust_env=False).raise_for_status().text
    return {
        (sample.name, sample.labels.get("state") or sample.labels.get("outcome") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _mapped(pid: int) -> set[str]:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line}
    return set()


def _descriptors(process: psutil.Process) -> Counter[str]:
    """Return what a process has open by kind; connections that both ends hold are `established`."""
    states = {each.fd: each.status.lower() for each in process.net_connections("inet")}
    kinds: Counter[str] = Counter()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            begin, colon, _ = str(link.readlink()).partition(":")
            kind = begin if colon and "/" not in begin else "file"
            kinds[states.get(int(link.name), kind)] += 1
    return kinds
