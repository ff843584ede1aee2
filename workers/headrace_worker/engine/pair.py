"""Chooses the side of hand-offs that a worker plays, and starts its courier."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from headrace_worker.engine.build import Engine
from headrace_worker.engine.handoff import Handoff
from headrace_worker.engine.layers import marker
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.engine.source import Serving
from headrace_worker.engine.target import Asking, Policy
from headrace_worker.parallel.pipe import Pipe
from headrace_worker.settings import WorkerSettings
from headrace_worker.transfer.branch import Branch, ToBranch
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.pick import pick
from headrace_worker.transfer.target import Deadlines
from headrace_worker.transfer.trace import Trace


def make_handoff(
    settings: WorkerSettings,
    engine: Engine,
    scheduler: Scheduler,
    report: Report,
    wake: Callable[[], None],
    *,
    flush: Callable[[], None],
) -> tuple[Handoff, str]:
    """Return the hand-off side for the worker's role, and the address of its control socket (empty: none).

    `flush` is called before other processes may write to blocks that were allocated for them.
    """
    if settings.role == "unified":
        return Handoff(), ""
    courier = start_courier(settings, engine, wake)
    if settings.role == "prefill":
        serving = Serving(
            courier,
            scheduler,
            report,
            layout=engine.layout,
            max_model_len=engine.max_model_len,
            max_waiting=settings.max_waiting,
            mark=marker(engine.runner.kv.device),
        )
        return serving, courier.address

    def prepare(blocks: Sequence[int]) -> None:
        flush()
        engine.runner.touch(blocks)

    asking = Asking(
        courier,
        scheduler,
        report,
        kv_block_bytes=settings.block_size * engine.kv_bytes_per_token,
        deadlines=Deadlines(settings.queue_deadline_s, settings.silence_s, settings.attempt_deadline_s),
        policy=Policy(
            local_prefill_tokens=settings.local_prefill_tokens,
            quarantine_blocks=int(settings.quarantine_fraction * engine.num_blocks),
            quarantine_s=settings.quarantine_deadline_s,
        ),
        incarnation=settings.incarnation,
        prepare=prepare,
    )
    return asking, courier.address


def start_courier(settings: WorkerSettings, engine: Engine, wake: Callable[[], None]) -> Courier:
    """Start the thread that owns the KV transport and the control sockets."""
    transport = pick(
        settings.transport,
        incarnation=settings.incarnation,
        host=settings.host,
        advertise=settings.address,
        secret=settings.secret,
    )
    return Courier(
        worker=settings.worker,
        incarnation=settings.incarnation,
        kv_hash=engine.kv_hash,
        secret=settings.secret,
        host=settings.host,
        advertise=settings.address,
        port=settings.handoff_port,
        transport=transport,
        kv_address=engine.layout.base,
        layout=engine.layout,
        device=ordinal(engine.runner.kv.device),
        silence_s=settings.silence_s,
        wake=wake,
        trace=None if settings.trace_file is None else Trace(Path(settings.trace_file)),
        branches=() if engine.ranks is None else engine.ranks.couriers,
    )


def start_branch(settings: WorkerSettings, engine: Engine, rank: int, pipe: Pipe[ToBranch]) -> Branch:
    """Start the thread that owns the KV transport of rank 1 and up."""
    name = f"{settings.incarnation}/{rank}"
    return Branch(
        rank=rank,
        name=name,
        pipe=pipe,
        transport=pick(
            settings.transport,
            incarnation=name,
            host=settings.host,
            advertise=settings.address,
            secret=settings.secret,
        ),
        layout=engine.layout,
        device=ordinal(engine.runner.kv.device),
    )


def ordinal(device: torch.device) -> int | None:
    """Return the number of a GPU, None for host memory."""
    return None if device.type == "cpu" else (device.index or 0)
