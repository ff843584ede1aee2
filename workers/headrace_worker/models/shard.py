"""Which part of a model each rank of a worker holds, and which shapes a model can be cut into.

Query heads are cut evenly, so that no rank waits for another; key/value heads too, or, where there are more ranks than
heads, several ranks hold the same one. The inner columns of the feed-forward part are cut between groups of packed
weights, the vocabulary anywhere.
"""

from dataclasses import dataclass

from headrace_worker.errors import SettingsError
from headrace_worker.kernels.cpu import GROUP
from headrace_worker.models.config import ModelConfig
from headrace_worker.parallel.shape import Shape, split


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a rank's stage stands among the stages, by numbers of ranks; None where there is nobody."""

    before: int | None = None
    """Passes the residual stream on to us."""
    after: int | None = None
    """Takes it from us."""
    head: int | None = None
    """To rank 0: who passes the logits on to it. To that one: 0."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of one rank: ranges of numbers within the whole model."""

    layers: range
    heads: range
    kv_heads: range
    inner: range
    """Columns between the two products of the feed-forward part."""
    vocabulary: range
    experts: range
    """Whole experts of each layer; with tensor parallelism alone each rank has `inner` columns of all of them."""
    shared: range
    """Inner columns of the expert that every token goes to."""
    first: bool
    """Whether it holds the first layers, and with them the embedding."""
    last: bool
    """Whether it holds the last layers, and with them the head."""
    chain: Chain = Chain()

    def kv_bytes_per_token(self, head_dim: int, item_bytes: int) -> int:
        """Return the bytes of keys and values of one token in this part's layers and heads."""
        return 2 * len(self.layers) * len(self.kv_heads) * head_dim * item_bytes


def shard_of(config: ModelConfig, shape: Shape, rank: int) -> Shard:
    """Return what `rank` holds of a model that passed `check_shape`."""
    stage, column = shape.stage_of(rank), shape.column_of(rank)
    tensor = column if shape.tensor > 1 else 0
    if config.kv_heads >= shape.tensor:
        kv_heads = split(config.kv_heads, shape.tensor, tensor)
    else:
        only = tensor * config.kv_heads // shape.tensor
        kv_heads = range(only, only + 1)
    return Shard(
        layers=split(config.num_layers, shape.pipeline, stage),
        heads=split(config.heads, shape.tensor, tensor),
        kv_heads=kv_heads,
        inner=_inner(config.intermediate, shape.tensor, tensor),
        vocabulary=split(config.vocabulary, shape.tensor, tensor),
        experts=split(config.experts.count, shape.expert, column if shape.expert > 1 else 0)
        if config.experts
        else range(0),
        shared=_inner(0 if config.experts is None else config.experts.shared_intermediate, shape.tensor, tensor),
        first=stage == 0,
        last=stage == shape.pipeline - 1,
        chain=_chain(shape, rank),
    )


def _chain(shape: Shape, rank: int) -> Chain:
    leader = (shape.pipeline - 1) * shape.width
    head = None
    if shape.pipeline > 1 and rank in {0, leader}:
        head = leader if rank == 0 else 0
    return Chain(
        before=rank - shape.width if shape.stage_of(rank) > 0 else None,
        after=rank + shape.width if shape.stage_of(rank) < shape.pipeline - 1 else None,
        head=head,
    )


def _inner(columns: int, ranks: int, rank: int) -> range:
    return split(columns, ranks, rank, GROUP if columns % GROUP == 0 else 1)


def whole(config: ModelConfig) -> Shard:
    """Return the part of a rank that is alone."""
    return shard_of(config, Shape(), 0)


def check_shape(config: ModelConfig, shape: Shape) -> None:
    """Raise SettingsError, with what was found and what is allowed, where the model cannot be cut so."""
    if shape.tensor not in (allowed := _tensor_sizes(config)):
        raise SettingsError(
            f"tensor parallelism is {shape.tensor}, but the model has {config.heads} query and {config.kv_heads} "
            f"key/value heads; it can be {_words(allowed)}"
        )
    if shape.pipeline > config.num_layers:
        raise SettingsError(
            f"pipeline parallelism is {shape.pipeline}, but the model has {config.num_layers} layers; "
            f"it can be 1 to {config.num_layers}"
        )
    _check_experts(config, shape)


def _check_experts(config: ModelConfig, shape: Shape) -> None:
    if shape.expert == 1:
        return
    if config.experts is None:
        raise SettingsError(f"expert parallelism is {shape.expert}, but the model has no experts; it can be 1")
    if shape.expert > config.experts.count:
        raise SettingsError(
            f"expert parallelism is {shape.expert}, but the model has {config.experts.count} experts in a layer; "
            f"it can be 1 to {config.experts.count}"
        )
    if shape.tensor not in {1, shape.expert}:
        raise SettingsError(
            f"expert parallelism is {shape.expert} and tensor parallelism {shape.tensor}; the same ranks divide heads "
            f"and experts, so tensor parallelism can be 1 or {shape.expert}"
        )


def _tensor_sizes(config: ModelConfig) -> list[int]:
    """Return into how many parts the heads go: each part has whole heads, and its queries their own keys."""
    divisors = [size for size in range(1, config.heads + 1) if config.heads % size == 0]
    return [size for size in divisors if config.kv_heads % size == 0 or size % config.kv_heads == 0]


def _words(sizes: list[int]) -> str:
    words = [str(size) for size in sizes]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
