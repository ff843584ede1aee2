"""One decoder for the Llama family, described by `ModelConfig`, computed by a `Backend`.

With several ranks each holds a `Shard` of it and computes its heads and columns; the ranks add up what they have after
attention and after the feed-forward part, so that the residual stream is the same on all of a stage. Stages pass it on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from headrace_worker.kernels.cpu import Packed
from headrace_worker.layers.backend import Backend, Batch, Weight
from headrace_worker.layers.experts import Expert, Experts, Routing
from headrace_worker.layers.unpack import unpack
from headrace_worker.models.checkpoint import Checkpoint, Cut
from headrace_worker.models.config import ModelConfig, rotary_table
from headrace_worker.models.shard import Shard, whole
from headrace_worker.parallel.group import ALONE, Group
from headrace_worker.parallel.shape import split

Tensor = torch.Tensor
_GATED = ("gate", "up")


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer."""

    attn_norm: Tensor
    qkv: Weight
    out: Weight
    ffn_norm: Tensor
    dense: Expert | None
    """The feed-forward part that every token goes through, or this rank's columns of it."""
    shared_gate: Tensor | None
    """(I,) float32: how much of the dense part each token gets; None is all."""
    experts: Experts | None
    head_norms: tuple[Tensor, Tensor] | None = None
    """(D,) each: of the queries' and of the keys' heads."""
    attn_post_norm: Tensor | None = None
    ffn_post_norm: Tensor | None = None
    window: int | None = None
    """How many of the last tokens it sees, where not all; it is local then, and may turn positions by another base."""


class Decoder:
    """Embedding, layers, norm and head; holds weights, no KV and no state between steps.

    Args:
        config: of the whole model.
        backend: computes.
        shard: the part that this rank holds; None is all of it.
        group: ranks that share each layer's columns.
        expert_group: ranks that share each layer's experts.
        rebalance_steps: after so many steps copies of hot experts move; 0 is never.
    """

    def __init__(
        self,
        config: ModelConfig,
        backend: Backend,
        shard: Shard | None = None,
        group: Group = ALONE,
        *,
        expert_group: Group = ALONE,
        rebalance_steps: int = 0,
    ) -> None:
        self.config = config
        self.backend = backend
        self.shard = whole(config) if shard is None else shard
        self._group = group
        self._expert_group = expert_group
        self._rebalance_steps = rebalance_steps
        self._layers: list[Layer] = []
        self._embed: Weight
        self._head: Weight
        self._norm: Tensor
        self._cos_sin: Tensor
        self._local_cos_sin: Tensor

    def load(
        self, checkpoint: Checkpoint, max_model_len: int, *, dense: bool, progress: Callable[[int, int], None]
    ) -> None:
        """Read this rank's part of every weight.

        Args:
            checkpoint: the open file.
            max_model_len: how many positions the rotary table needs.
            dense: keep matrices ready for products over many rows (prefill) beside their packed form.
            progress: called with (layers done, layers) after each layer.
        """
        backend, device = self.backend, self.backend.device
        words = Cut(rows=self.shard.vocabulary)
        if self.shard.first or (self.shard.last and self.config.tied_embedding):
            self._embed = backend.weight([checkpoint.required_matrix("embed", backend.dtype, words)], None, dense=False)
        if self.shard.last and self.config.tied_embedding:
            self._head = self._embed
        elif self.shard.last:
            self._head = backend.weight([checkpoint.required_matrix("head", backend.dtype, words)], None, dense=False)
        self._norm = checkpoint.required_vector("norm").to(device)
        self._cos_sin = rotary_table(self.config, max_model_len, checkpoint.rope_factors()).to(device)
        self._local_cos_sin = self._cos_sin
        if self.config.gemma is not None:
            local = replace(self.config, rope_theta=self.config.gemma.local_rope_theta)
            self._local_cos_sin = rotary_table(local, max_model_len).to(device)
        for done, number in enumerate(self.shard.layers, 1):
            self._layers.append(self._load_layer(checkpoint, number, dense=dense))
            progress(done, len(self.shard.layers))

    def _load_layer(self, checkpoint: Checkpoint, number: int, *, dense: bool) -> Layer:
        device, shard = self.backend.device, self.shard
        queries, keys = (_wide(heads, self.config.head_dim) for heads in (shard.heads, shard.kv_heads))

        def matrix(part: str, cut: Cut) -> Packed:
            return checkpoint.required_matrix(f"{number}.{part}", self.backend.dtype, cut)

        def weight(*matrices: Packed, bias: Tensor | None = None) -> Weight:
            return self.backend.weight(matrices, bias, dense=dense)

        projections = {"q": queries, "k": keys, "v": keys}
        bias = None
        if self.config.qkv_bias:
            parts = [
                checkpoint.required_vector(f"{number}.{part}_bias")[_slice(at)] for part, at in projections.items()
            ]
            bias = torch.cat(parts)

        def vector(part: str) -> Tensor:
            return checkpoint.required_vector(f"{number}.{part}").to(device)

        gemma = self.config.gemma
        return Layer(
            head_norms=None if gemma is None else (vector("q_norm"), vector("k_norm")),
            attn_post_norm=None if gemma is None else vector("attn_post_norm"),
            ffn_post_norm=None if gemma is None else vector("ffn_post_norm"),
            window=self.config.window_of(number),
            attn_norm=vector("attn_norm"),
            qkv=weight(*(matrix(part, Cut(rows=rows)) for part, rows in projections.items()), bias=bias),
            out=weight(matrix("o", Cut(columns=queries))),
            ffn_norm=vector("ffn_norm"),
            dense=self._dense(checkpoint, number, dense=dense),
            shared_gate=self._vector(checkpoint, f"{number}.shared_gate") if len(shard.shared) else None,
            experts=None if self.config.experts is None else self._experts(checkpoint, number, dense=dense),
        )

    def _dense(self, checkpoint: Checkpoint, number: int, *, dense: bool) -> Expert | None:
        if self.config.experts is None:
            return self._expert(checkpoint, f"{number}", self.shard.inner, dense=dense)
        if self.config.experts.shared_intermediate:
            return self._expert(checkpoint, f"{number}.shared", self.shard.shared, dense=dense)
        return None

    def _expert(self, checkpoint: Checkpoint, name: str, inner: range, *, dense: bool) -> Expert:
        """Read these inner columns of a gated feed-forward part."""
        backend = self.backend
        gate, up = (checkpoint.required_matrix(f"{name}.{part}", backend.dtype, Cut(rows=inner)) for part in _GATED)
        down = checkpoint.required_matrix(f"{name}.down", backend.dtype, Cut(columns=inner))
        return Expert(backend.weight([gate, up], None, dense=dense), backend.weight([down], None, dense=dense))

    def _experts(self, checkpoint: Checkpoint, number: int, *, dense: bool) -> Experts:
        sizes, shard = self.config.experts, self.shard
        assert sizes is not None
        table = self._float(checkpoint, f"{number}.router")

        def load(expert: int) -> Expert:
            inner = shard.inner if self._expert_group.size == 1 else range(sizes.intermediate)
            return self._expert(checkpoint, f"{number}.experts.{expert}", inner, dense=dense)

        return Experts(
            self.backend,
            Routing(table, sizes.per_token, sizes.normalize),
            load,
            shard.experts,
            self._expert_group,
            rebalance_steps=self._rebalance_steps,
        )

    def expert_tokens(self) -> dict[int, list[int]]:
        """Return for each layer of this rank, by its number in the model, the tokens that went to each expert."""
        layers = zip(self.shard.layers, self._layers, strict=True)
        return {number: layer.experts.tokens.tolist() for number, layer in layers if layer.experts is not None}

    def _float(self, checkpoint: Checkpoint, name: str) -> Tensor:
        packed = checkpoint.required_matrix(name, torch.float32)
        return unpack(packed, torch.float32).to(self.backend.device)

    def _vector(self, checkpoint: Checkpoint, name: str) -> Tensor:
        return self._float(checkpoint, name).flatten()

    def forward(self, batch: Batch, kv: Tensor) -> Tensor | None:
        """Run one step; write KV of all its tokens; return logits (R, V) float32 of `batch.logit_rows`.

        Where there are several ranks, rank 0 gets logits; what the others get is of no use.

        Args:
            batch: the step's rows.
            kv: (layer, N, 2, K, B, D), this rank's layers and heads.
        """
        backend, eps = self.backend, self.config.norm_eps
        x = self._entering(batch.ids)
        for number, layer in enumerate(self._layers):
            qkv = backend.linear(backend.norm(x, layer.attn_norm, eps), layer.qkv)
            if layer.head_norms is not None:
                self._norm_heads(qkv, layer.head_norms)
            cos_sin = self._cos_sin if layer.window is None else self._local_cos_sin
            attended = backend.attention(qkv, cos_sin, kv[number], batch, layer.window)
            if batch.on_layer is not None:
                batch.on_layer(number)
            self._add(attended, layer.out, x, layer.attn_post_norm)
            self._feed_forward(x, layer)
        return self._leaving(x, batch.logit_rows)

    def _entering(self, ids: Tensor) -> Tensor:
        """Return the residual stream before our first layer."""
        if (before := self.shard.chain.before) is None:
            return self._embedded(ids)
        empty = torch.empty(ids.shape[0], self.config.hidden, device=self.backend.device)
        return self._group.take_over(empty, before)

    def _leaving(self, x: Tensor, wanted: Tensor) -> Tensor | None:
        """Pass on what follows our last layer; return the logits at rank 0."""
        chain = self.shard.chain
        if chain.after is not None:
            self._group.pass_on(x, chain.after)
            if chain.head is None or not wanted.shape[0]:
                return None
            empty = torch.empty(wanted.shape[0], self.config.vocabulary, device=self.backend.device)
            return self._group.take_over(empty, chain.head)
        logits = self._logits(x, wanted)
        if logits is not None and chain.head is not None:
            self._group.pass_on(logits, chain.head)
        return logits

    def _feed_forward(self, x: Tensor, layer: Layer) -> None:
        """Add the feed-forward part to the residual stream."""
        backend, normed = self.backend, self.backend.norm(x, layer.ffn_norm, self.config.norm_eps)
        if layer.experts is None:
            assert layer.dense is not None
            gate_up = backend.linear(normed, layer.dense.gate_up)
            gated = backend.silu_mul(gate_up) if self.config.gemma is None else gelu_mul(gate_up)
            self._add(gated, layer.dense.down, x, layer.ffn_post_norm)
            return
        rows = normed.float()
        divided = torch.zeros_like(x)
        if layer.dense is not None:
            divided += layer.dense.compute(backend, rows)
            if layer.shared_gate is not None:
                divided *= torch.sigmoid(rows @ layer.shared_gate)[:, None]
        routed = layer.experts.compute(rows)
        if self._expert_group.size == 1:  # each rank has its columns of every expert
            divided += routed
        else:
            x += routed
        if layer.dense is not None or self._expert_group.size == 1:
            x += self._group.add_up(divided)

    def _embedded(self, ids: Tensor) -> Tensor:
        """Return the rows of the table: each rank adds those that it has."""
        rows = self._looked_up(ids)
        return rows if self.config.gemma is None else rows * math.sqrt(self.config.hidden)

    def _looked_up(self, ids: Tensor) -> Tensor:
        if self._group.size == 1:
            return self.backend.embed(self._embed, ids)
        words = self.shard.vocabulary
        ours = (ids >= words.start) & (ids < words.stop)
        rows = self.backend.embed(self._embed, torch.where(ours, ids - words.start, 0))
        return self._group.add_up(rows * ours[:, None])

    def _norm_heads(self, qkv: Tensor, weights: tuple[Tensor, Tensor]) -> None:
        """Normalize each query and key head of qkv (T, (H + 2 K) D) in place."""
        dim, eps = self.config.head_dim, self.config.norm_eps
        queries, keys = len(self.shard.heads) * dim, len(self.shard.kv_heads) * dim
        for part, weight in zip((qkv[:, :queries], qkv[:, queries : queries + keys]), weights, strict=True):
            heads = part.view(part.shape[0], -1, dim)
            heads.copy_(rms_norm(heads, weight, eps))

    def _add(self, x: Tensor, weight: Weight, residual: Tensor, post_norm: Tensor | None = None) -> None:
        """Add all ranks' shares of a product, normalized where the layer wants it, to the residual stream."""
        if self._group.size == 1 and post_norm is None:
            self.backend.linear_add(x, weight, residual)
            return
        product = self._group.add_up(self.backend.linear(x, weight))
        residual += product if post_norm is None else rms_norm(product, post_norm, self.config.norm_eps)

    def _logits(self, x: Tensor, wanted: Tensor) -> Tensor | None:
        if not wanted.shape[0]:
            return None
        rows = x[wanted] if wanted.shape[0] != x.shape[0] else x
        logits = self.backend.logits(self.backend.norm(rows, self._norm, self.config.norm_eps), self._head)
        if self._group.size == 1:
            return logits
        widest = -(-self.config.vocabulary // self._group.size)
        padded = torch.nn.functional.pad(logits, (0, widest - logits.shape[1]))
        joined = self._group.join_columns(padded)
        return None if joined is None else self._without_padding(joined, widest)

    def _without_padding(self, joined: Tensor, widest: int) -> Tensor:
        sizes = [len(split(self.config.vocabulary, self._group.size, rank)) for rank in range(self._group.size)]
        parts = [part[:, :size] for part, size in zip(torch.split(joined, widest, dim=1), sizes, strict=True)]
        return torch.cat(parts, dim=1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the RMS norm of the last dimension, computed in float32 (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def gelu_mul(gate_up: Tensor) -> Tensor:
    """Return gelu(gate) * up of (T, 2 I); GELU by its tanh form, as Gemma was trained."""
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.gelu(gate, approximate="tanh") * up


def _wide(heads: range, dim: int) -> range:
    """Return the rows or columns of these heads."""
    return range(heads.start * dim, heads.stop * dim)


def _slice(part: range) -> slice:
    return slice(part.start, part.stop)
