"""What describes a decoder of the Llama family."""

import math
from dataclasses import dataclass

import torch

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions beyond the pre-training length are squeezed.

    `linear` divides every frequency by `factor` (Chen et al. 2023, arXiv 2306.15595); `llama3` divides only the low
    ones and blends between (Llama 3.1 model card: low and high frequency factor, original context length).
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, slots=True)
class Gemma:
    """What a decoder of the Gemma 3 family does beyond Llama's (Gemma Team 2025, arXiv 2503.19786, section 2).

    Embeddings are scaled by sqrt(hidden), queries and keys are normalized per head, what attention and feed-forward
    add is normalized too, the gate is GELU, and most layers are local: they have rotary positions of their own base and
    see a window only.
    """

    local_rope_theta: float = 10000.0
    global_every: int = 6
    """Of so many layers the last one is global."""

    def is_local(self, layer: int) -> bool:
        """Whether a layer, counted from 0, sees its window only."""
        return (layer + 1) % self.global_every != 0


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """Sizes of layers whose feed-forward part is made of experts."""

    count: int
    per_token: int
    """Experts that each token goes to."""
    intermediate: int
    normalize: bool
    """Whether the weights of a token's experts add up to 1."""
    shared_intermediate: int = 0
    """Of the expert that every token goes to, where there is one."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of a decoder; all counts, `norm_eps` and `rope_theta` without unit."""

    architecture: str
    num_layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_context: int
    window: int | None = None
    """How many of the last tokens local layers see, the row's own included; None: there are no such layers."""
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tied_embedding: bool = False
    qkv_bias: bool = False
    gemma: Gemma | None = None
    experts: ExpertsConfig | None = None

    def window_of(self, layer: int) -> int | None:
        """Return how many of the last tokens a layer, counted from 0, sees; None: all. Gemma mixes both kinds."""
        return self.window if self.gemma is None or self.gemma.is_local(layer) else None

    def kv_bytes_per_token(self, dtype: torch.dtype) -> int:
        """Return the bytes of keys and values of one token over all layers."""
        return 2 * self.num_layers * self.kv_heads * self.head_dim * dtype.itemsize

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that the tensor of this canonical name must have (names: see `checkpoint`)."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("embed", "head"), (self.vocabulary, self.hidden)),
            **dict.fromkeys(("norm", "attn_norm", "ffn_norm", "attn_post_norm", "ffn_post_norm"), (self.hidden,)),
            **dict.fromkeys(("k", "v"), (keys, self.hidden)),
            **dict.fromkeys(("q_norm", "k_norm"), (self.head_dim,)),
            **dict.fromkeys(("k_bias", "v_bias"), (keys,)),
            **dict.fromkeys(("gate", "up"), (self.intermediate, self.hidden)),
            "q": (queries, self.hidden),
            "q_bias": (queries,),
            "o": (self.hidden, queries),
            "down": (self.hidden, self.intermediate),
        }
        if self.experts is not None:
            part = self.experts.shared_intermediate if ".shared." in name else self.experts.intermediate
            shapes |= {"gate": (part, self.hidden), "up": (part, self.hidden), "down": (self.hidden, part)}
            shapes |= {"router": (self.experts.count, self.hidden), "shared_gate": (1, self.hidden)}
        return shapes[name.rpartition(".")[2]]


def rotary_table(config: ModelConfig, length: int, factors: Tensor | None = None) -> Tensor:
    """Return cosines and sines of all positions, (length, head_dim) float32, cosines first.

    Angles are position / theta^(2 i / head_dim) (Su et al. 2021, arXiv 2104.09864, equation 15).

    Args:
        config: theta, scaling and head size.
        length: how many positions.
        factors: (head_dim / 2,) divisors of the frequencies, where the file brings them.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if factors is not None:
        frequencies = frequencies / factors
    elif config.rope_scaling is not None:
        frequencies = _scaled(frequencies, config.rope_scaling)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1).contiguous()


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_context / wavelengths
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return frequencies * (blend + (1 - blend) / scaling.factor)
