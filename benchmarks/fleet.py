"""Real worker processes for benchmarks: started, awaited, asked, ended."""

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

START_DEADLINE_S = 180.0
ANSWER_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is ready."""

    name: str
    url: str
    process: "subprocess.Popen[bytes]"

    def peak_memory_bytes(self) -> int:
        """Return the highest resident memory of the worker's processes added up; Linux only, 0 elsewhere."""
        return sum(map(_peak_bytes, _group(self.process.pid)))


def _group(leader: int) -> list[int]:
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if os.getpgid(int(folder.name)) == leader:
                pids.append(int(folder.name))
    return pids


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def worker(folder: Path, name: str, *, core: int | None = None, **settings: Any) -> Iterator[Worker]:
    """Run a worker, on one core where one is named; yield it once it is ready."""
    ready, file = folder / f"{name}.ready", folder / f"{name}.json"
    file.write_text(json.dumps({"worker": name, "name": "bench", "ready_file": str(ready), **settings}))
    command = [sys.executable, "-m", "headrace_worker", "--settings", str(file)]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    try:
        yield Worker(name, _await(process, ready, folder / f"{name}.log"), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(process: "subprocess.Popen[bytes]", ready: Path, log: Path) -> str:
    end = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, ValueError):
            url = str(json.loads(ready.read_text())["url"])
            if get(url, "/ready")[0] == 200:
                return url
        time.sleep(0.05)
    raise TimeoutError(f"the worker was not ready within {START_DEADLINE_S} s: {log.read_text()[-2000:]}")


def get(url: str, path: str) -> tuple[int, str]:
    """Return (status, body) of a GET."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def prompt(count: int, seed: int) -> list[int]:
    """Return `count` random token ids, so that no two prompts share a prefix."""
    source = random.Random(seed)
    return [source.randrange(100, 40000) for _ in range(count)]


def ttft_s(url: str, ids: Sequence[int], prefill: str | None = None) -> float:
    """Return the seconds from sending a streamed completion to its first event.

    Args:
        url: of the worker.
        ids: the prompt.
        prefill: base URL of the prefill worker that must serve it; checked on the answer.
    """
    body = json.dumps({"model": "bench", "prompt": list(ids), "max_tokens": 2, "temperature": 0, "stream": True})
    headers = {"content-type": "application/json"}
    if prefill is not None:
        headers |= {"x-headrace-prefill-workers": prefill, "x-headrace-disaggregate": "always"}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_DEADLINE_S)
    try:
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        first = answer.readline()
        took = time.perf_counter() - began
        rest = answer.read()
        if answer.status != 200 or not first.startswith(b"data:"):
            raise RuntimeError(f"the worker answered {answer.status}: {(first + rest)[:500]!r}")
        if prefill is not None and answer.getheader("x-headrace-prefill") in {None, "local"}:
            raise RuntimeError("the prompt was not handed over")
        return took
    finally:
        connection.close()
