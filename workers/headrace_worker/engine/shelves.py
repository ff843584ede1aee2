"""Makes the tiers below the device from settings: memory, and a disk where one is asked for."""

import logging
from collections.abc import Callable
from pathlib import Path

from headrace_worker import fetch
from headrace_worker.engine.build import Engine
from headrace_worker.offload.arena import Arena, block_bytes
from headrace_worker.offload.clerk import Clerk
from headrace_worker.offload.files import file_bytes
from headrace_worker.offload.folder import Folder
from headrace_worker.offload.offload import Offload, TieredOffload
from headrace_worker.offload.rates import Rates
from headrace_worker.offload.storage import pick
from headrace_worker.offload.tiers import Tiers
from headrace_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


def make_offload(settings: WorkerSettings, engine: Engine, wake: Callable[[], None]) -> Offload:
    """Return the tiers that the settings ask for; budgets below one block are none.

    Raises:
        SettingsError: the folder cannot be used.
    """
    kv = engine.runner.kv
    size = block_bytes(kv)
    slots = (settings.offload_memory_bytes or 0) // size
    if not slots:
        if settings.offload_memory_bytes:
            logger.warning("offload_memory_bytes is less than one KV block of %d bytes: nothing is kept", size)
        return Offload()
    files = (settings.offload_disk_bytes or 0) // file_bytes(size)
    rates = Rates(always=settings.offload_when == "always")
    arena = Arena(kv, slots)
    clerk = _clerk(settings, engine, arena, wake) if files else None
    logger.info("%d blocks are kept in memory and %d on disk, of %d bytes each", slots, files, size)
    return TieredOffload(Tiers(slots, files, rates.pays), arena, rates, clerk)


def _clerk(settings: WorkerSettings, engine: Engine, arena: Arena, wake: Callable[[], None]) -> Clerk:
    path = fetch.cache_root() / "kv" if settings.offload_path is None else Path(settings.offload_path)
    folder = Folder(path, settings.worker, bytes.fromhex(engine.kv_hash))
    return Clerk(
        folder,
        make_storage=lambda: pick(arena.base, arena.size, folder.place),
        view=arena.view,
        address=arena.address,
        block_bytes=arena.block_bytes,
        wake=wake,
    )
