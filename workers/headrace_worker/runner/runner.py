"""Runs one step on the model: inputs, forward, sampling."""

from collections.abc import Sequence

import torch

from headrace_api.frames import Token
from headrace_api.sampling import Sampling
from headrace_worker.models.decoder import Decoder
from headrace_worker.runner.inputs import arrange, build
from headrace_worker.runner.sampling import NotFiniteError, sample
from headrace_worker.runner.work import Draw, Row, Work

_GREEDY = Draw(Sampling(max_tokens=1, temperature=0.0), 0, (), ())


class Runner:
    """A decoder and its KV tensor (layer, N, 2, K, B, D)."""

    def __init__(self, decoder: Decoder, kv: torch.Tensor) -> None:
        self.kv = kv
        self._decoder = decoder
        self._block_size = kv.shape[4]
        self._present: set[int] = set()

    @torch.inference_mode()
    def run(self, work: Work) -> list[Token | NotFiniteError | None]:
        """Compute the KV of every row's tokens; return per row the sampled token, None where it has no draw."""
        order = arrange(work)
        backend = self._decoder.backend
        batch = build(work, order, self._block_size, backend.device)
        results: list[Token | NotFiniteError | None] = [None] * len(work.rows)
        drawing = [number for number in order if work.rows[number].draw is not None]
        logits = self._decoder.forward(batch, self.kv)
        if drawing:
            draws = [draw for number in drawing if (draw := work.rows[number].draw) is not None]
            sampled = sample(logits, backend.summarize(logits), draws)
            for number, token in zip(drawing, sampled, strict=True):
                results[number] = token
        return results

    def touch(self, blocks: Sequence[int]) -> None:
        """Have the memory of empty blocks present: another process pays more for the first touch of a page."""
        fresh = [block for block in blocks if block not in self._present]
        if fresh:
            self.kv.index_fill_(1, torch.tensor(fresh, device=self.kv.device), 0)
            self._present.update(fresh)

    def warm(self, chunk_tokens: int) -> None:
        """Run a prompt chunk and a decode step in block 0, so that the first request pays for no lazy set-up."""
        size = min(chunk_tokens, self._block_size)
        self.run(Work([Row([0] * size, 0, [0], _GREEDY)]))
        self.run(Work([Row([0], 0, [0], _GREEDY)]))
        self.kv[:, :1].zero_()
