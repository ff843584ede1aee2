"""The core of a worker whose model is an encoder: texts in, vectors out; no KV, no steps, no hand-off."""

import logging
import time
from collections import deque
from collections.abc import Callable

import torch

from headrace_worker import fetch
from headrace_worker.engine.build import pick_device
from headrace_worker.engine.limits import count_processors, read_limits
from headrace_worker.engine.link import FrontLink
from headrace_worker.engine.report import Report
from headrace_worker.errors import SettingsError
from headrace_worker.messages import (
    Cancel,
    Embed,
    Embedded,
    Failed,
    Finish,
    Generate,
    Loading,
    PeerDead,
    Ready,
    Shutdown,
    Stats,
)
from headrace_worker.models.architecture import is_encoder
from headrace_worker.models.encoder import Encoder, open_encoder
from headrace_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)
MOST_TEXTS = 16
MOST_TOKENS = 2048
"""Bounds on one pass, padding counted: larger ones compute no faster on processors, and hold up who comes next."""
_IDLE_S = 1.0


class EncoderCore:
    """Everything of one engine process that encodes, on one thread; requests are served in order of arrival.

    Args:
        link: to the front.
        encoder: the model.
        max_waiting: most queued requests.
        clock: monotonic seconds.
    """

    def __init__(
        self, link: FrontLink, encoder: Encoder, max_waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link = link
        self._encoder = encoder
        self._max_waiting = max_waiting
        self._clock = clock
        self._waiting: deque[_Job] = deque()
        self._report = Report()

    def run(self) -> None:
        """Serve until the front says Shutdown."""
        while self._listen():
            if self._waiting:
                self._step()
            else:
                self._tell()
                self._link.wait(_IDLE_S)

    def _listen(self) -> bool:
        for message in self._link.receive():
            match message:
                case Shutdown():
                    return False
                case Embed():
                    self._take(message)
                case Cancel(request):
                    self._waiting = deque(job for job in self._waiting if job.request != request)
                case Generate(request=request):
                    self._link.send(Failed(request, "invalid", "This model is an encoder; it generates nothing."))
                case Finish() | PeerDead():
                    pass  # about answers and hand-offs, of which there are none here
        return True

    def _take(self, message: Embed) -> None:
        if len(self._waiting) >= self._max_waiting:
            text = f"{len(self._waiting)} requests wait already; try again later."
            self._link.send(Failed(message.request, "overloaded", text))
            return
        self._waiting.append(_Job(message))

    def _step(self) -> None:
        """Encode one batch of the oldest request."""
        job = self._waiting[0]
        batch = job.batch()
        began = self._clock()
        try:
            vectors = self._encoder.embed([job.texts[place] for place in batch])
        except RuntimeError as error:  # out of memory on a device; other requests may be smaller
            logger.exception("a batch of %d texts could not be encoded", len(batch))
            self._waiting.popleft()
            self._link.send(Failed(job.request, "internal", f"The texts could not be encoded: {error}."))
            return
        self._report.step_s.append(self._clock() - began)
        self._report.add("prompt_computed", sum(len(job.texts[place]) for place in batch))
        for place, vector in zip(batch, vectors.cpu().numpy().astype("<f4"), strict=True):
            job.vectors[place] = vector.tobytes()
        if job.done:
            self._waiting.popleft()
            self._link.send(Embedded(job.request, tuple(vector for vector in job.vectors if vector is not None)))
        self._tell()

    def _tell(self) -> None:
        now = self._clock()
        if now < self._report.due or not self._report.changed:
            return
        message = Stats(
            running=min(1, len(self._waiting)),
            waiting=max(0, len(self._waiting) - 1),
            waiting_prompt_tokens=sum(job.tokens_left for job in self._waiting),
            blocks={},
            counters=dict(self._report.counters),
            step_s=tuple(self._report.step_s),
        )
        self._report.step_s.clear()
        # An interval after the last work the gauges must say that nothing runs, so news stays until that is told.
        self._report.changed = bool(self._waiting)
        self._report.due = now
        self._link.send(message)


class _Job:
    """A request and what is left of it; shortest texts first, so that a batch pads little."""

    def __init__(self, message: Embed) -> None:
        self.request = message.request
        self.texts = message.texts
        self.vectors: list[bytes | None] = [None] * len(message.texts)
        self._left = deque(sorted(range(len(message.texts)), key=lambda place: len(message.texts[place])))

    @property
    def done(self) -> bool:
        return not self._left

    @property
    def tokens_left(self) -> int:
        return sum(len(self.texts[place]) for place in self._left)

    def batch(self) -> list[int]:
        """Take the places of the next texts."""
        taken: list[int] = []
        while self._left and len(taken) < MOST_TEXTS:
            if taken and len(self.texts[self._left[0]]) * (len(taken) + 1) > MOST_TOKENS:
                break
            taken.append(self._left.popleft())
        return taken


def build_encoder(settings: WorkerSettings, link: FrontLink) -> EncoderCore | None:
    """Load the model where it is an encoder, tell the front that it is ready and return its core; else None.

    Raises:
        WorkerError: the files are incomplete, or the settings want a hand-off.
    """
    path = fetch.resolve(settings.model).path
    if not is_encoder(path):
        return None
    if settings.role != "unified":
        raise SettingsError(
            f"the model is an encoder, which has no KV to hand over, and the role is {settings.role!r}; "
            "set disaggregation: never in its LLMDeployment"
        )
    torch.set_num_threads(settings.threads or count_processors(read_limits()))
    encoder = open_encoder(path, pick_device(settings.device))
    encoder.embed([[encoder.config.pad_id] * 8])  # the first pass is slow, and a client should not pay for it
    size = sum(tensor.nbytes for tensor in encoder.tensors())
    link.send(Loading(size, size))
    bound = min(settings.max_model_len or encoder.config.max_context, encoder.config.max_context)
    link.send(Ready(handoff_address="", kv_hash="", num_blocks=0, block_size=1, max_model_len=bound, kv_bytes=0))
    return EncoderCore(link, encoder, settings.max_waiting)
