"""Deals out the blows of a plan to the processes and the requests of a service."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Sequence

from tests.contract.service import Service, Worker, group
from tests.soak.journal import Journal
from tests.soak.load import Load
from tests.soak.plan import Blow, Role, pick


class Chaos:
    """Kills, stops and cancels.

    Args:
        service: whose workers suffer.
        load: whose requests are cancelled.
        journal: told of each kill and stop.
        spared: workers that are stopped but never killed from `spared_from_s` on, so that memory can be watched.
        spared_from_s: seconds of the plan.
    """

    def __init__(
        self, service: Service, load: Load, journal: Journal, *, spared: frozenset[str], spared_from_s: float
    ) -> None:
        self.dealt: Counter[str] = Counter()
        self._service = service
        self._load = load
        self._journal = journal
        self._spared = spared
        self._spared_from_s = spared_from_s
        self._stopped: dict[int, str] = {}
        """Process groups that sleep now."""

    async def deal(self, blows: Sequence[Blow]) -> None:
        """Deal all blows, each at its time; at the end everything that was stopped is awake."""
        began_s = self._journal.now_s
        try:
            async with asyncio.TaskGroup() as stops:
                for blow in blows:
                    await asyncio.sleep(max(0.0, began_s + blow.at_s - self._journal.now_s))
                    if blow.kind == "cancel":
                        self.dealt["cancel"] += self._load.cancel(blow.chance)
                    elif blow.kind == "kill":
                        self._kill(blow)
                    elif (worker := pick(blow.chance, self._awake(blow.role))) is not None:
                        stops.create_task(self._stop(worker, blow.length_s))
        finally:
            for leader in list(self._stopped):
                self._wake(leader)

    def _workers(self, role: Role) -> list[Worker]:
        return sorted((one for one in self._service.workers() if one.role == role), key=lambda one: one.name)

    def _awake(self, role: Role) -> list[Worker]:
        return [one for one in self._workers(role) if one.pid not in self._stopped]

    def _kill(self, blow: Blow) -> None:
        if blow.role == "router":
            if (pid := self._service.router_pid) is not None:
                self._load.router_killed_s = self._journal.now_s
                self._end(pid, "router", "killed")
            return
        safe = self._spared if blow.at_s >= self._spared_from_s else frozenset()
        worker = pick(blow.chance, [one for one in self._workers(blow.role) if one.name not in safe])
        if worker is None:
            self._journal.note("soak", f"no {blow.role} worker is there to be killed")
            return
        parts = {"leader": [worker.pid], "engine": [pid for pid in group(worker.pid) if pid != worker.pid]}
        for pid in parts[blow.part][:1]:
            self._end(pid, worker.name, f"{blow.part} of {worker.incarnation} killed")

    def _end(self, pid: int, name: str, what: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.dealt["kill"] += 1
            self._journal.note(name, what)

    async def _stop(self, worker: Worker, length_s: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGSTOP)
            self._stopped[worker.pid] = worker.name
            self.dealt["stop"] += 1
            self._journal.note(worker.name, f"{worker.incarnation} stopped for {length_s:.1f} s")
            await asyncio.sleep(length_s)
            self._wake(worker.pid)

    def _wake(self, leader: int) -> None:
        name = self._stopped.pop(leader, "?")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGCONT)
            self._journal.note(name, "woken")
