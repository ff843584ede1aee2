"""Makes an engine from settings: device, type, weights, KV memory, and the other ranks where there are several.

A rank first looks at the model and says what it sees (`Survey`), so that everything that is wrong is told before any
weight is read; then it assembles its part.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from headrace_api.handoff import PROTOCOL_VERSION, Layout
from headrace_worker import fetch
from headrace_worker.engine import memory
from headrace_worker.engine.limits import count_processors, read_limits
from headrace_worker.errors import SettingsError
from headrace_worker.kernels.build import NoCompilerError
from headrace_worker.kernels.cpu import GROUP, Kernels
from headrace_worker.layers.backend import Backend
from headrace_worker.layers.eager import EagerBackend
from headrace_worker.layers.native import NativeBackend
from headrace_worker.models.checkpoint import Checkpoint
from headrace_worker.models.config import ModelConfig
from headrace_worker.models.decoder import Decoder
from headrace_worker.models.pick import open_checkpoint
from headrace_worker.models.shard import Shard, check_shape, shard_of, whole
from headrace_worker.parallel import remote
from headrace_worker.parallel.group import ALONE, Group, join, open_store
from headrace_worker.parallel.place import Place
from headrace_worker.parallel.ranks import Ranks
from headrace_worker.parallel.shape import Shape
from headrace_worker.runner.runner import Runner
from headrace_worker.settings import WorkerSettings
from headrace_worker.transfer.branch import FromBranch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """What the core loop runs on."""

    runner: Runner
    config: ModelConfig
    layout: Layout
    max_model_len: int
    kv_hash: str
    kv_bytes_per_token: int
    """Over all layers, each head once."""
    ranks: Ranks | None = None
    """The other ranks of the worker."""

    @property
    def num_blocks(self) -> int:
        """KV blocks of the worker."""
        return self.layout.num_blocks


@dataclass(frozen=True, slots=True)
class Survey:
    """What a rank sees of the model and of its device before it reads any weight."""

    checkpoint: Checkpoint
    shape: Shape
    shard: Shard
    device: torch.device
    dtype: torch.dtype
    threads: int
    max_model_len: int
    num_blocks: int
    """KV blocks that fit beside the weights."""
    kv_hash: str


def build_engine(
    settings: WorkerSettings, progress: Callable[[int, int], None], wake: Callable[[], None] = lambda: None
) -> Engine:
    """Load the model and lay out the KV memory, here and on the other ranks.

    Args:
        settings: of the worker.
        progress: called with (bytes of weights read, bytes of all).
        wake: called, on another thread, when another rank has ended.

    Raises:
        WorkerError: a sentence for the user: no such model, truncated, too large, unknown device, not to be cut so.
    """
    seen = survey(settings, 0)
    if seen.shape.size == 1:
        engine = assemble(settings, seen, seen.num_blocks, progress=progress)
    else:
        engine = _assemble_all(settings, seen, progress, wake)
    engine.runner.warm(settings.chunk_tokens)
    logger.info(
        "%s on %s in %s, %d KV blocks of %d tokens, %d ranks",
        *(engine.config.architecture, seen.device, seen.dtype, engine.num_blocks, settings.block_size),
        seen.shape.size,
    )
    return engine


def _assemble_all(
    settings: WorkerSettings, seen: Survey, progress: Callable[[int, int], None], wake: Callable[[], None]
) -> Engine:
    """Assemble this rank's part while the others do theirs."""
    incoming = None if settings.role == "unified" else FromBranch
    place = None if settings.nodes == 1 else _place(settings, seen.shape.size)
    # The secret stays on its node: each one has it of its own.
    told = settings.model_dump_json(exclude=None if place is None else {"secret"})
    ranks = Ranks(seen.shape.size, told, wake, incoming=incoming, place=place)
    host = settings.host if place is None else settings.address
    try:
        num_blocks = ranks.agree(seen.kv_hash, seen.num_blocks)
        store, port = open_store(host)
        ranks.load(host, port, num_blocks)
        with ranks.meeting():
            group = join(seen.shape, 0, seen.device, store, host)
        engine = assemble(settings, seen, num_blocks, group=group, ranks=ranks, progress=progress)
        ranks.await_loaded()
    except BaseException:
        ranks.close()
        raise
    return engine


def _place(settings: WorkerSettings, size: int) -> Place:
    """Return the nodes of a worker that spans several."""
    if not settings.secret:
        raise SettingsError(
            f"nodes is {settings.nodes}, and whoever joins must prove a secret; set HEADRACE_SECRET on every node"
        )
    group = remote.Group(settings.address, settings.ray_port, settings.nodes, size, settings.secret)
    return remote.Nodes(group)


def survey(settings: WorkerSettings, rank: int) -> Survey:
    """Look at the model and at the device of a rank."""
    shape = shape_of(settings)
    resolved = fetch.resolve(settings.model)
    checkpoint = open_checkpoint(resolved.path)
    config = checkpoint.config
    check_shape(config, shape)
    here = shape.size // settings.nodes
    device = pick_device(settings.device, here, rank % here)
    dtype = pick_dtype(settings.dtype, device)
    limits = read_limits()
    shard = shard_of(config, shape, rank)
    max_model_len = min(settings.max_model_len or config.max_context, config.max_context)
    room = memory.room_on(device, limits).shared(here if device.type == "cpu" else 1)
    offload_bytes = settings.offload_memory_bytes or 0
    memory.check_offload(offload_bytes, memory.room_on(torch.device("cpu"), limits))
    if device.type == "cpu":
        room = room.without(offload_bytes)
    num_blocks = _fit(
        settings,
        shard.kv_bytes_per_token(config.head_dim, dtype.itemsize),
        max_model_len,
        weight_bytes(checkpoint, dtype, dense=settings.role != "decode") // shape.size,
        room,
    )
    return Survey(
        checkpoint=checkpoint,
        shape=shape,
        shard=shard,
        device=device,
        dtype=dtype,
        threads=max(1, (settings.threads or count_processors(limits)) // here),
        max_model_len=max_model_len,
        num_blocks=num_blocks,
        kv_hash=compatibility_hash(config, resolved.revision, dtype, settings.block_size),
    )


def shape_of(settings: WorkerSettings) -> Shape:
    """Return how many ranks the settings ask for."""
    return Shape(settings.tensor_parallel, settings.pipeline_parallel, settings.expert_parallel)


def assemble(
    settings: WorkerSettings,
    seen: Survey,
    num_blocks: int,
    *,
    group: Group = ALONE,
    ranks: Ranks | None = None,
    progress: Callable[[int, int], None],
) -> Engine:
    """Read this rank's weights and lay out its KV memory."""
    torch.set_num_threads(seen.threads)
    checkpoint, shard, config = seen.checkpoint, seen.shard, seen.checkpoint.config
    decoder = Decoder(
        config,
        pick_backend(seen.device, seen.dtype, config, shard),
        shard,
        group if seen.shape.tensor > 1 else ALONE,
        expert_group=group if seen.shape.expert > 1 else ALONE,
        rebalance_steps=settings.expert_rebalance_steps,
    )
    total = checkpoint.size_bytes()
    decoder.load(
        checkpoint,
        seen.max_model_len,
        dense=settings.role != "decode",
        progress=lambda done, of: progress(total * done // of, total),
    )
    shape = (len(shard.layers), num_blocks, len(shard.kv_heads), settings.block_size, config.head_dim)
    kv = decoder.backend.kv_cache(*shape)
    return Engine(
        runner=Runner(decoder, kv, ranks),
        config=config,
        layout=Layout(
            base=kv.data_ptr(),
            num_layers=len(shard.layers),
            num_blocks=num_blocks,
            block_bytes=kv[0, 0].nbytes,
            device=seen.device.index or 0,
            first_layer=shard.layers.start,
            first_head=shard.kv_heads.start,
            num_heads=len(shard.kv_heads),
        ),
        max_model_len=min(seen.max_model_len, num_blocks * settings.block_size),
        kv_hash=seen.kv_hash,
        kv_bytes_per_token=config.kv_bytes_per_token(seen.dtype),
        ranks=ranks,
    )


def _fit(settings: WorkerSettings, token_bytes: int, max_model_len: int, weights: int, room: memory.Room) -> int:
    """Return how many KV blocks fit beside the weights; raise MemoryNeededError before anything is loaded."""
    memory.check_weights(weights, room)
    wanted = None if settings.kv_memory_bytes is None else settings.kv_memory_bytes // shape_of(settings).size
    return memory.choose_blocks(token_bytes, settings.block_size, max_model_len, wanted, room.without(weights))


def pick_device(wanted: str, ranks: int = 1, rank: int = 0) -> torch.device:
    """Return the device of the setting for a rank; raise SettingsError where it is absent or unknown."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in {"cpu", "cuda"}:
        raise SettingsError(f"device {wanted!r} is not known; use auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device 'cuda' was asked for but torch sees no CUDA device; use auto or cpu")
    if wanted == "cpu" or ranks == 1:
        return torch.device(wanted)
    if ranks > torch.cuda.device_count():
        raise SettingsError(
            f"{ranks} ranks need a GPU each, and torch sees {torch.cuda.device_count()}; use fewer ranks or device cpu"
        )
    return torch.device(wanted, rank)


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the compute type; `auto` is bfloat16 where the device has instructions for it, else float32."""
    if wanted == "auto":
        return torch.bfloat16 if device.type == "cuda" or _has_bfloat16_instructions() else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[wanted]


def _has_bfloat16_instructions() -> bool:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    line = next((line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()))


def pick_backend(device: torch.device, dtype: torch.dtype, config: ModelConfig, shard: Shard | None = None) -> Backend:
    """Return compiled kernels on processors whose vector size divides the model's shapes, torch elsewhere."""
    if device.type != "cpu":
        return EagerBackend(device, dtype)
    try:
        kernels = Kernels(fetch.cache_root())
    except NoCompilerError as error:
        logger.warning("%s; falling back to plain torch, which decodes several times slower", error)
        return EagerBackend(device, dtype)
    part = whole(config) if shard is None else shard
    inputs = (config.hidden, len(part.inner), len(part.shared), len(part.heads) * config.head_dim)
    if any(size % GROUP for size in inputs) or config.head_dim % kernels.lanes:
        logger.info("shapes %s are no multiples of %d: plain torch computes this model", inputs, GROUP)
        return EagerBackend(device, dtype)
    return NativeBackend(kernels, dtype)


def weight_bytes(checkpoint: Checkpoint, dtype: torch.dtype, *, dense: bool) -> int:
    """Return an estimate of the weights' memory: packed form, and the dense copy of the layers where one is kept."""
    config = checkpoint.config
    attention = (2 * config.heads + 2 * config.kv_heads) * config.head_dim * config.hidden
    inner = config.intermediate
    if config.experts is not None:
        inner = config.experts.count * config.experts.intermediate + config.experts.shared_intermediate
    layers = config.num_layers * (attention + 3 * config.hidden * inner)
    return checkpoint.size_bytes() + (layers * dtype.itemsize if dense else 0)


def compatibility_hash(config: ModelConfig, revision: str, dtype: torch.dtype, block_size: int) -> str:
    """Return what two workers must have equal for one to use the other's KV."""
    facts = {
        "protocol": PROTOCOL_VERSION,
        "model": asdict(config),
        "revision": revision,
        "dtype": str(dtype),
        "layout": "layer,block,kv,head,token,dim",
        "block_size": block_size,
        "byte_order": sys.byteorder,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
