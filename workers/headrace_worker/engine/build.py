"""Makes an engine from settings: device, type, weights, KV memory."""

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
from headrace_worker.runner.runner import Runner
from headrace_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """What the core loop runs on."""

    runner: Runner
    config: ModelConfig
    layout: Layout
    max_model_len: int
    kv_hash: str

    @property
    def num_blocks(self) -> int:
        """KV blocks of the worker."""
        return self.layout.num_blocks


def build_engine(settings: WorkerSettings, progress: Callable[[int, int], None]) -> Engine:
    """Load the model and lay out the KV memory.

    Args:
        settings: of the worker.
        progress: called with (bytes of weights read, bytes of all).

    Raises:
        WorkerError: a sentence for the user: no such model, truncated, too large, unknown device.
    """
    resolved = fetch.resolve(settings.model)
    checkpoint = open_checkpoint(resolved.path)
    config, device = checkpoint.config, pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    limits = read_limits()
    torch.set_num_threads(settings.threads or count_processors(limits))
    max_model_len = min(settings.max_model_len or config.max_context, config.max_context)
    dense = settings.role != "decode"
    weights = weight_bytes(checkpoint, dtype, dense=dense)
    num_blocks = _fit(
        settings, config.kv_bytes_per_token(dtype), max_model_len, weights, memory.room_on(device, limits)
    )
    decoder = Decoder(config, pick_backend(device, dtype, config))
    total = checkpoint.size_bytes()
    decoder.load(checkpoint, max_model_len, dense=dense, progress=lambda done, of: progress(total * done // of, total))
    shape = (config.num_layers, num_blocks, config.kv_heads, settings.block_size, config.head_dim)
    kv = decoder.backend.kv_cache(*shape)
    runner = Runner(decoder, kv)
    runner.warm(settings.chunk_tokens)
    logger.info(
        "%s on %s in %s, %d KV blocks of %d tokens",
        *(config.architecture, device, dtype, num_blocks, settings.block_size),
    )
    return Engine(
        runner=runner,
        config=config,
        layout=Layout(kv.data_ptr(), config.num_layers, num_blocks, kv[0, 0].nbytes, device.index or 0),
        max_model_len=min(max_model_len, num_blocks * settings.block_size),
        kv_hash=compatibility_hash(config, resolved.revision, dtype, settings.block_size),
    )


def _fit(settings: WorkerSettings, token_bytes: int, max_model_len: int, weights: int, room: memory.Room) -> int:
    """Return how many KV blocks fit beside the weights; raise MemoryNeededError before anything is loaded."""
    memory.check_weights(weights, room)
    left = room.without(weights)
    return memory.choose_blocks(token_bytes, settings.block_size, max_model_len, settings.kv_memory_bytes, left)


def pick_device(wanted: str) -> torch.device:
    """Return the device of the setting; raise SettingsError where it is absent or unknown."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in {"cpu", "cuda"}:
        raise SettingsError(f"device {wanted!r} is not known; use auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device 'cuda' was asked for but torch sees no CUDA device; use auto or cpu")
    return torch.device(wanted)


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


def pick_backend(device: torch.device, dtype: torch.dtype, config: ModelConfig) -> Backend:
    """Return compiled kernels on processors whose vector size divides the model's shapes, torch elsewhere."""
    if device.type != "cpu":
        return EagerBackend(device, dtype)
    try:
        kernels = Kernels(fetch.cache_root())
    except NoCompilerError as error:
        logger.warning("%s; falling back to plain torch, which decodes several times slower", error)
        return EagerBackend(device, dtype)
    inputs = (config.hidden, config.intermediate, config.heads * config.head_dim)
    if any(size % GROUP for size in inputs) or config.head_dim % kernels.lanes:
        logger.info("shapes %s are no multiples of %d: plain torch computes this model", inputs, GROUP)
        return EagerBackend(device, dtype)
    return NativeBackend(kernels, dtype)


def weight_bytes(checkpoint: Checkpoint, dtype: torch.dtype, *, dense: bool) -> int:
    """Return an estimate of the weights' memory: packed form, and the dense copy of the layers where one is kept."""
    config = checkpoint.config
    attention = (2 * config.heads + 2 * config.kv_heads) * config.head_dim * config.hidden
    layers = config.num_layers * (attention + 3 * config.hidden * config.intermediate)
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
