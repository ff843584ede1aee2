"""Runs one step on the model: inputs, forward, sampling."""

from collections.abc import Callable, Sequence

import torch

from headrace_api.frames import Token
from headrace_api.sampling import Sampling
from headrace_worker.models.decoder import Decoder
from headrace_worker.parallel.messages import Step, Touch
from headrace_worker.parallel.ranks import Ranks
from headrace_worker.runner.inputs import arrange, build
from headrace_worker.runner.sampling import NotFiniteError, sample
from headrace_worker.runner.step import step_of, work_of
from headrace_worker.runner.work import Draw, Row, Work

_GREEDY = Draw(Sampling(max_tokens=1, temperature=0.0), 0, (), ())


class Runner:
    """A decoder and its KV tensor (layer, N, 2, K, B, D), and the worker's other ranks where there are some."""

    def __init__(self, decoder: Decoder, kv: torch.Tensor, ranks: Ranks | None = None) -> None:
        self.kv = kv
        self._decoder = decoder
        self._ranks = ranks
        self._block_size = kv.shape[4]
        self._present: set[int] = set()

    def run(self, work: Work) -> list[Token | NotFiniteError | None]:
        """Compute the KV of every row's tokens; return per row the sampled token, None where it has no draw.

        Raises:
            RankError: another rank has ended.
        """
        if self._ranks is None:
            return self._run(work)
        self._ranks.tell(step_of(work))
        try:
            return self._run(work)
        except RuntimeError as error:  # what torch raises when a rank does not answer
            raise self._ranks.failure(error) from error

    @torch.inference_mode()
    def _run(self, work: Work) -> list[Token | NotFiniteError | None]:
        order = arrange(work)
        backend = self._decoder.backend
        results: list[Token | NotFiniteError | None] = [None] * len(work.rows)
        drawing = [number for number in order if work.rows[number].draw is not None]
        logits = self._forward(work, order)
        if drawing and logits is not None:
            draws = [draw for number in drawing if (draw := work.rows[number].draw) is not None]
            sampled = sample(logits, backend.summarize(logits), draws)
            for number, token in zip(drawing, sampled, strict=True):
                results[number] = token
        return results

    def _forward(self, work: Work, order: Sequence[int]) -> torch.Tensor | None:
        batch = build(work, order, self._block_size, self._decoder.backend.device)
        return self._decoder.forward(batch, self.kv)

    @torch.inference_mode()
    def follow(self, step: Step, on_layer: Callable[[int], None] | None = None) -> None:
        """Compute this rank's share of a step of rank 0; `on_layer` is called as in `Work`."""
        work = work_of(step, on_layer)
        self._forward(work, arrange(work))

    def expert_tokens(self) -> dict[int, list[int]]:
        """Return what the decoder counted."""
        return self._decoder.expert_tokens()

    def check(self) -> None:
        """Raise RankError when another rank has ended."""
        if self._ranks is not None:
            self._ranks.check()

    def close(self) -> None:
        """End the other ranks."""
        if self._ranks is not None:
            self._ranks.close()

    def touch(self, blocks: Sequence[int]) -> None:
        """Have the memory of empty blocks present: another process pays more for the first touch of a page."""
        fresh = [block for block in blocks if block not in self._present]
        if not fresh:
            return
        if self._ranks is not None:
            self._ranks.tell(Touch(tuple(fresh)))
        self.kv.index_fill_(1, torch.tensor(fresh, device=self.kv.device), 0)
        self._present.update(fresh)

    def warm(self, chunk_tokens: int) -> None:
        """Run a prompt chunk and a decode step in block 0, so that the first request pays for no lazy set-up."""
        size = min(chunk_tokens, self._block_size)
        self.run(Work([Row([0] * size, 0, [0], _GREEDY)]))
        self.run(Work([Row([0], 0, [0], _GREEDY)]))
        self.kv[:, :1].zero_()
