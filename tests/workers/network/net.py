"""Workers in networks of their own, a client in a third one, and what an undisturbed worker answers."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.soak.watch import read
from tests.workers.network.space import INTERFACE, Space
from tests.workers.network.wire import Wire
from tests.workers.parallel.rig import Answered, Worker, eventually

from headrace_api import names

SILENCE_S = 4.0
"""A lease lasts twice as long. Shorter ones end on a loaded machine without any fault."""
MOST_TOKENS = 8
SECRET = "the deployment's own"


class Net:
    """A prefill worker, a decode worker and a client, each in a network of its own.

    Args:
        folder: for files.
        model: that all serve.
        transport: of KV.
        whole: a worker that nothing disturbs.
    """

    def __init__(self, folder: Path, model: Path, transport: str, whole: Worker) -> None:
        self.wire = Wire(seed=1)
        self.outside, self.near, self.far, self.beyond = (self.wire.space() for _ in range(4))
        """Of the client, of the prefill worker, of the decode worker, of one more."""
        self._folder = folder
        self._model = model
        self._transport = transport
        self._whole = whole
        self._numbers = itertools.count()
        self._started: list[Worker] = []
        self.client = ThreadPoolExecutor(4)
        """For what is to be asked while a test does something else."""
        self._seeds = itertools.count(1)
        self.wire.start()
        self.prefill = self.start("prefill-0", self.near)
        self.decode = self.start("decode-0", self.far)

    def start(self, name: str, space: Space, **settings: Any) -> Worker:
        """Start a worker in a network; it is ready."""
        role = name.partition("-")[0]
        given: dict[str, Any] = {"role": role, "worker": name, "host": space.address, "transport": self._transport}
        given |= {"silence_s": SILENCE_S, "secret": SECRET, **settings}
        with pytest.MonkeyPatch.context() as patch:
            # Two networks of one machine share its memory, and UCX would take that way.
            patch.setenv("UCX_TLS", "tcp,self")
            patch.setenv("UCX_NET_DEVICES", INTERFACE)
            worker = space.call(Worker, self._folder / f"{name}-{next(self._numbers)}", self._model, **given)
        self._started.append(worker)
        self.outside.call(worker.await_ready)
        return worker

    def fresh(self, size: int) -> list[int]:
        """Return a prompt that nobody has seen."""
        seed = next(self._seeds)
        return [(13 * at + 7 * seed + at * at * seed) % 256 for at in range(size)]

    def ask(self, prompt: list[int], decode: Worker | None = None) -> Answered:
        """Return the answer, which is the known one, of the decode worker with the help of the prefill worker."""
        headers = {names.HEADER_PREFILL_WORKERS: self.prefill.peer(), names.HEADER_DISAGGREGATE: "always"}
        answer = self.outside.call((decode or self.decode).ask, prompt, MOST_TOKENS, headers)
        assert answer.tokens == self.known(prompt)
        return answer

    def known(self, prompt: list[int]) -> list[str]:
        """Return what an undisturbed worker answers."""
        return self._whole.ask(prompt, MOST_TOKENS).tokens

    def hand_over(self, size: int) -> None:
        """Ask until a prompt has come by way of the prefill worker; each answer on the way is the known one."""
        eventually(lambda: self.ask(self.fresh(size)).prefill == "prefill-0", "a prompt is handed over")

    def page(self, worker: Worker) -> dict[tuple[str, str], float]:
        """Return a worker's metrics."""
        return self.outside.call(read, worker.peer())

    def blocks(self, worker: Worker, state: str) -> float:
        """Return how many of its KV blocks are in a state."""
        return self.page(worker)[names.KV_BLOCKS, state]

    def at_rest(self, *workers: Worker) -> bool:
        """Whether every block is free or cached."""
        pages = [self.page(worker) for worker in workers]
        states = (names.KV_BLOCKS, "free"), (names.KV_BLOCKS, "cached")
        return all(sum(page[state] for state in states) == page[names.KV_BLOCKS_CAPACITY, ""] for page in pages)

    def close(self) -> None:
        """Leave nothing running."""
        for worker in self._started:
            worker.kill()
        self.client.shutdown()
        self.wire.close()
