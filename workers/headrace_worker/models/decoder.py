"""One decoder for the Llama family, described by `ModelConfig`, computed by a `Backend`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from headrace_worker.layers.backend import Backend, Batch, Weight
from headrace_worker.models.checkpoint import Checkpoint
from headrace_worker.models.config import ModelConfig, rotary_table

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer."""

    attn_norm: Tensor
    qkv: Weight
    out: Weight
    ffn_norm: Tensor
    gate_up: Weight
    down: Weight


class Decoder:
    """Embedding, layers, norm and head; holds weights, no KV and no state between steps."""

    def __init__(self, config: ModelConfig, backend: Backend) -> None:
        self.config = config
        self.backend = backend
        self._layers: list[Layer] = []
        self._embed: Weight
        self._head: Weight
        self._norm: Tensor
        self._cos_sin: Tensor

    def load(
        self, checkpoint: Checkpoint, max_model_len: int, *, dense: bool, progress: Callable[[int, int], None]
    ) -> None:
        """Read every weight.

        Args:
            checkpoint: the open file.
            max_model_len: how many positions the rotary table needs.
            dense: keep matrices ready for products over many rows (prefill) beside their packed form.
            progress: called with (layers done, layers) after each layer.
        """
        backend, device = self.backend, self.backend.device
        packed = checkpoint.required_matrix("embed", backend.dtype)
        self._embed = backend.weight([packed], None, dense=False)
        if self.config.tied_embedding:
            self._head = self._embed
        else:
            self._head = backend.weight([checkpoint.required_matrix("head", backend.dtype)], None, dense=False)
        self._norm = checkpoint.required_vector("norm").to(device)
        self._cos_sin = rotary_table(self.config, max_model_len, checkpoint.rope_factors()).to(device)
        for number in range(self.config.num_layers):
            self._layers.append(self._load_layer(checkpoint, number, dense=dense))
            progress(number + 1, self.config.num_layers)

    def _load_layer(self, checkpoint: Checkpoint, number: int, *, dense: bool) -> Layer:
        device = self.backend.device

        def fused(*parts: str, biased: bool = False) -> Weight:
            matrices = [checkpoint.required_matrix(f"{number}.{part}", self.backend.dtype) for part in parts]
            bias = None
            if biased:
                bias = torch.cat([checkpoint.required_vector(f"{number}.{part}_bias") for part in parts])
            return self.backend.weight(matrices, bias, dense=dense)

        return Layer(
            attn_norm=checkpoint.required_vector(f"{number}.attn_norm").to(device),
            qkv=fused("q", "k", "v", biased=self.config.qkv_bias),
            out=fused("o"),
            ffn_norm=checkpoint.required_vector(f"{number}.ffn_norm").to(device),
            gate_up=fused("gate", "up"),
            down=fused("down"),
        )

    def forward(self, batch: Batch, kv: Tensor) -> Tensor:
        """Run one step; write KV of all its tokens; return logits (R, V) float32 of `batch.logit_rows`.

        Args:
            batch: the step's rows.
            kv: (layer, N, 2, K, B, D).
        """
        backend, eps = self.backend, self.config.norm_eps
        x = backend.embed(self._embed, batch.ids)
        for number, layer in enumerate(self._layers):
            qkv = backend.linear(backend.norm(x, layer.attn_norm, eps), layer.qkv)
            attended = backend.attention(qkv, self._cos_sin, kv[number], batch)
            if batch.on_layer is not None:
                batch.on_layer(number)
            backend.linear_add(attended, layer.out, x)
            gate_up = backend.linear(backend.norm(x, layer.ffn_norm, eps), layer.gate_up)
            backend.linear_add(backend.silu_mul(gate_up), layer.down, x)
        rows = x[batch.logit_rows] if batch.logit_rows.shape[0] != x.shape[0] else x
        return backend.logits(backend.norm(rows, self._norm, eps), self._head)
