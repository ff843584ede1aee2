"""The operator as a process of its own, with its own counts: who is measured."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil
from e2e.cluster.api import ApiCluster
from e2e.cluster.processes import free_ports

from headrace_operator.objects.site import Site

_IDLE_S: Final = 300.0
_WRITES: Final = frozenset({"apply", "post", "patch", "scale", "delete"})
_ANYWAY: Final = frozenset({"watch", "list", "discover"})
"""Calls that nobody's resource causes; the last one looks for KEDA, every 30 seconds."""
_MAKING: Final = frozenset({"apply", "post"})

Call = tuple[str, str]
"""Verb and resource."""


@dataclass(slots=True)
class Operator:
    """The operator as a process, with its own counts."""

    process: subprocess.Popen[bytes]
    port: int

    def leads(self) -> bool:
        """Return whether it answers and acts."""
        with contextlib.suppress(httpx.TransportError):
            return "\nheadrace_operator_leader 1.0" in self.page()
        return False

    def page(self) -> str:
        """Return its page of metrics."""
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text

    def spent_s(self) -> float:
        """Return its processor time so far, user and system."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def memory_mb(self) -> float:
        """Return its resident memory in 10^6 bytes."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def calls(self) -> Counter[str]:
        """Return how many calls it made so far for resources, by what they are for."""
        found: Counter[str] = Counter()
        for (verb, kind), count in calls_in(self.page()).items():
            found[_purpose(verb, kind)] += count
        return found

    async def idle(self) -> None:
        """Wait until it has nothing to do, also later, and has made no call for a second.

        Statuses are written together, up to two seconds after their news: who only waits for calls to end takes such a
        write for one of what comes next. One look a second, for a page of figures takes the operator milliseconds:
        with four a second they were up to a fifth of what it was found to spend.
        """
        before, is_calm = -1, False
        async with asyncio.timeout(_IDLE_S):
            while not is_calm:
                await asyncio.sleep(1.0)
                page = self.page()
                now = calls_in(page).total()
                before, is_calm = now, now == before and not depth_in(page)

    def writes(self) -> Counter[Call]:
        """Return how many calls it made so far that may change something."""
        return writes_in(self.page())


def calls_in(page: str) -> Counter[Call]:
    """Return the calls that a page of metrics tells of; those that are made without any resource are left out."""
    found: Counter[Call] = Counter()
    for line in page.splitlines():
        if line.startswith("headrace_operator_api_calls_total{"):
            labels, _, value = line.rpartition(" ")
            verb = labels.partition('verb="')[2].partition('"')[0]
            kind = labels.partition('resource="')[2].partition('"')[0]
            if kind != "leases" and verb not in _ANYWAY:
                found[verb, kind] += round(float(value))
    return found


def writes_in(page: str) -> Counter[Call]:
    """Return those of the calls that may change something."""
    return Counter({call: count for call, count in calls_in(page).items() if call[0] in _WRITES})


def depth_in(page: str) -> int:
    """Return how many resources wait for a turn, those whose time has not come with them."""
    name = "headrace_operator_queue_depth "
    return next(round(float(line.removeprefix(name))) for line in page.splitlines() if line.startswith(name))


def _purpose(verb: str, kind: str) -> str:
    if verb not in _WRITES:
        return "looks"
    if kind == "pods":
        return "gates of pods"
    if verb == "scale":
        return "numbers of pools"
    return "objects" if verb in {*_MAKING, "delete"} and kind != "events" else "statuses and events"


@contextlib.contextmanager
def operator(cluster: ApiCluster, folder: Path, site: Site) -> Iterator[Operator]:
    """Run the operator against the cluster."""
    log, port = folder / "operator.log", free_ports(1)[0]
    command = [sys.executable, "-m", "headrace_operator", "--kubeconfig", str(cluster.kubeconfig)]
    command += ["--worker-image", site.worker_image, "--router-image", site.router_image]
    command += ["--host", "127.0.0.1", "--port", str(port), "--operator-namespace", "default", "--gpus", "no"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            found, deadline = Operator(process, port), time.monotonic() + 60
            while not found.leads():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the operator did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
