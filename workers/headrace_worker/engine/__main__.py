"""Entry of process 2: settings as one JSON line on standard input, messages over `--front`.

Standard input stays open as a lifeline: its end means that the front has gone, and the core goes too.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.build import Engine, build_engine
from headrace_worker.engine.core import Core
from headrace_worker.engine.encoding import EncoderCore, build_encoder
from headrace_worker.engine.link import FrontLink
from headrace_worker.engine.meter import Meter, level
from headrace_worker.engine.pair import make_handoff
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.engine.shelves import make_offload
from headrace_worker.errors import WorkerError
from headrace_worker.messages import Broken, Loading, Ready
from headrace_worker.parallel.lifeline import die_with_parent
from headrace_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


def main() -> None:
    """Run the core until the front ends it."""
    parser = argparse.ArgumentParser(prog="python -m headrace_worker.engine", description=__doc__)
    parser.add_argument("--front", required=True, help="ZeroMQ address of the front")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s core %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front decides when the core ends
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    settings = WorkerSettings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_watch_lifeline, name="lifeline", daemon=True).start()
    link = FrontLink(arguments.front)
    try:
        core = _build(settings, link)
    except WorkerError as error:
        _give_up(link, str(error), permanent=error.permanent)
    except Exception as error:
        logger.exception("the engine could not start")
        _give_up(link, f"the engine could not start: {error}")
    try:
        core.run()
    except WorkerError as error:
        _give_up(link, str(error), permanent=error.permanent)
    except Exception as error:
        logger.exception("the engine failed")
        _give_up(link, f"the engine failed: {error}")
    link.close()


def _build(settings: WorkerSettings, link: FrontLink) -> Core | EncoderCore:
    encoder = build_encoder(settings, link)
    return _build_decoder(settings, link) if encoder is None else encoder


def _build_decoder(settings: WorkerSettings, link: FrontLink) -> Core:
    began_s = time.monotonic()
    engine = build_engine(settings, _paced(link), link.wake)
    offload = make_offload(settings, engine, link.wake)
    cold = offload.cold
    pool = BlockPool(engine.num_blocks, settings.block_size, cold.put)
    scheduler = Scheduler(pool, max_running=settings.max_running, chunk_tokens=settings.chunk_tokens, cold=cold)
    report = Report()
    handoff, address = make_handoff(settings, engine, scheduler, report, link.wake, flush=offload.flush)
    link.send(_ready(engine, settings, address))
    meter = _meter(engine, settings, report)
    report.counters["gpu_load_ns"] = round((time.monotonic() - began_s) * 1e9)
    return Core(
        link=link,
        scheduler=scheduler,
        runner=engine.runner,
        handoff=handoff,
        report=report,
        max_model_len=engine.max_model_len,
        vocabulary=engine.config.vocabulary,
        max_waiting=settings.max_waiting,
        meter=meter,
        offload=offload,
    )


def _meter(engine: Engine, settings: WorkerSettings, report: Report) -> Meter:
    config = engine.config
    context = level(config.hidden, config.intermediate, config.heads, config.kv_heads, config.head_dim)
    devices = settings.tensor_parallel if engine.runner.kv.is_cuda else 1
    return Meter(report, time.monotonic, devices=devices, level=context)


def _ready(engine: Engine, settings: WorkerSettings, address: str) -> Ready:
    return Ready(
        handoff_address=address,
        kv_hash=engine.kv_hash,
        num_blocks=engine.num_blocks,
        block_size=settings.block_size,
        max_model_len=engine.max_model_len,
        kv_bytes=engine.num_blocks * settings.block_size * engine.kv_bytes_per_token,
    )


def _paced(link: FrontLink) -> Callable[[int, int], None]:
    """Return a progress callback that sends at most twenty messages a second, and the last one always."""
    sent = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal sent
        now = time.monotonic()
        if now - sent >= 0.05 or done == total:
            sent = now
            link.send(Loading(done, total))

    return progress


def _give_up(link: FrontLink, message: str, *, permanent: bool = False) -> NoReturn:
    link.send(Broken(message, permanent))
    link.close()
    raise SystemExit(1)


def _watch_lifeline() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
