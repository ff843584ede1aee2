"""An engine core in a thread, behind the real socket; this side plays the front."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq
from tests.workers.models.tiny import CONTEXT, make_kv
from torch import Tensor

from headrace_api.frames import Token
from headrace_api.sampling import Sampling
from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.core import Core
from headrace_worker.engine.handoff import Handoff
from headrace_worker.engine.link import FrontLink
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.messages import Choice, Failed, Generate, Outputs, Shutdown, Stats, ToCore, ToFront
from headrace_worker.models.decoder import Decoder
from headrace_worker.offload.offload import Offload
from headrace_worker.runner.runner import Runner

DEADLINE_S = 120.0
BLOCK = 16
_decoder: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)


@dataclass
class Answer:
    """What arrived for one choice."""

    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    prefill: str | None = None
    cached_tokens: int = 0

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


class Front:
    """Sends messages to a core and gathers what it says."""

    def __init__(self, core: Core, socket: "zmq.Socket[bytes]", offload: Offload) -> None:
        self.core = core
        self.offload = offload
        self.answers: dict[tuple[str, int], Answer] = {}
        self.failed: dict[str, Failed] = {}
        self.stats: Stats | None = None
        self.most_running = 0
        self._socket = socket
        self._serial = 0

    def send(self, message: ToCore) -> None:
        self._socket.send(msgspec.msgpack.encode(message))

    def generate(self, prompt: list[int], choices: tuple[Choice, ...] = (Choice(0),), **how: Any) -> str:
        """Ask for a greedy answer, unless `how` says otherwise; return the request's id."""
        self._serial += 1
        request = f"request-{self._serial}"
        salt = how.pop("salt", "")
        sampling = Sampling(**{"max_tokens": 16, "temperature": 0.0, **how})
        message = Generate(request=request, prompt_ids=tuple(prompt), sampling=sampling, choices=choices, salt=salt)
        for choice in choices:
            self.answers[request, choice.index] = Answer()
        self.send(message)
        return request

    def until(self, condition: Callable[[], bool]) -> None:
        """Take in messages until the condition holds."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert self._socket.poll(max(0, round((end - time.monotonic()) * 1000))), "the core said nothing in time"
            self._take(_decoder.decode(self._socket.recv()))

    def _take(self, message: ToFront) -> None:
        if isinstance(message, Stats):
            self.stats = message
            self.most_running = max(self.most_running, message.running)
        elif isinstance(message, Failed):
            self.failed[message.request] = message
        elif isinstance(message, Outputs):
            for output in message.outputs:
                answer = self.answers[output.request, output.choice]
                assert answer.finish is None, "a token came after the end"
                if not answer.tokens:
                    answer.prefill, answer.cached_tokens = output.prefill, output.cached_tokens
                else:
                    assert (output.prefill, output.cached_tokens) == (None, 0)
                answer.tokens += output.tokens
                answer.finish = output.finish

    def finished(self, request: str, choice: int = 0) -> Answer:
        """Return the whole answer once it has ended."""
        answer = self.answers[request, choice]
        self.until(lambda: answer.finish is not None)
        return answer

    def answer(self, prompt: list[int], **how: Any) -> Answer:
        """Ask and wait for one answer."""
        return self.finished(self.generate(prompt, **how))

    def settled(self) -> Stats:
        """Return the first report in which nothing runs or waits."""
        self.stats = None
        self.until(lambda: self.stats is not None and not self.stats.running and not self.stats.waiting)
        assert self.stats is not None
        return self.stats


@contextlib.contextmanager
def running_core(
    decoder: Decoder,
    address: str,
    *,
    num_blocks: int = 64,
    chunk_tokens: int = 64,
    max_running: int = 16,
    max_waiting: int = 100,
    max_model_len: int = CONTEXT,
    make_offload: Callable[[Tensor, Callable[[], None]], Offload] = lambda _kv, _wake: Offload(),
) -> Iterator[Front]:
    """Run a core on `decoder` until the end of the block, then prove that its blocks add up.

    `make_offload` is called with the KV tensor and what wakes the core.
    """
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
    socket.bind(address)
    link = FrontLink(address)
    kv = make_kv(decoder, num_blocks, BLOCK)
    offload = make_offload(kv, link.wake)
    pool = BlockPool(num_blocks, BLOCK, offload.cold.put)
    scheduler = Scheduler(pool, max_running=max_running, chunk_tokens=chunk_tokens, cold=offload.cold)
    core = Core(
        link=link,
        scheduler=scheduler,
        runner=Runner(decoder, kv),
        handoff=Handoff(),
        report=Report(),
        max_model_len=min(max_model_len, num_blocks * BLOCK),
        vocabulary=decoder.config.vocabulary,
        max_waiting=max_waiting,
        offload=offload,
    )

    def run() -> None:
        try:
            core.run()
        finally:
            link.close()

    thread = threading.Thread(target=run, name="core")
    thread.start()
    front = Front(core, socket, offload)
    try:
        yield front
    finally:
        front.send(Shutdown())
        thread.join(DEADLINE_S)
        socket.close(linger=0)
        assert not thread.is_alive()
    scheduler.pool.check()
