"""Entry of a rank's process (rank 1 and up): reads its part of the model, then computes its share of every step.

Its pipe to rank 0, whose descriptor is the argument, is its lifeline too: when rank 0 has gone, it goes.
"""

import logging
import os
import signal
import sys

from headrace_worker.engine.build import Engine, assemble, survey
from headrace_worker.engine.layers import announcing, marker
from headrace_worker.engine.pair import start_branch
from headrace_worker.errors import RankError, WorkerError
from headrace_worker.parallel.group import JOIN_S, join, leave, reach_store
from headrace_worker.parallel.lifeline import die_with_parent
from headrace_worker.parallel.messages import Begin, Broken, End, Found, Load, Loaded, Step, ToRank, Touch
from headrace_worker.parallel.pipe import Pipe, open_pipe
from headrace_worker.parallel.place import at_home
from headrace_worker.runner.step import written_of
from headrace_worker.settings import WorkerSettings
from headrace_worker.transfer.branch import Branch, ToBranch

logger = logging.getLogger(__name__)
AGREE_S = 150.0
"""How long rank 0 may take until all ranks have said what they see."""


def main() -> int:
    """Serve rank 0 until it ends; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides when the ranks end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    pipe: Pipe[ToRank] = open_pipe(int(sys.argv[1]), ToRank)
    begin = pipe.receive(JOIN_S)
    assert isinstance(begin, Begin)
    form = f"%(asctime)s rank {begin.rank} %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    try:
        _serve(pipe, *_build(pipe, begin))
    except WorkerError as error:
        return _give_up(pipe, str(error), permanent=error.permanent)
    except Exception as error:
        logger.exception("rank %d failed", begin.rank)
        return _give_up(pipe, str(error))
    leave()
    return 0


def _build(pipe: Pipe[ToRank], begin: Begin) -> tuple[Engine, Branch | None]:
    settings = at_home(WorkerSettings.model_validate_json(begin.settings), os.environ)
    seen = survey(settings, begin.rank)
    pipe.send(Found(begin.rank, seen.kv_hash, seen.num_blocks))
    load = pipe.receive(AGREE_S)
    if isinstance(load, End):
        raise SystemExit(0)
    assert isinstance(load, Load)
    store = reach_store(load.store_host, load.store_port)
    group = join(seen.shape, begin.rank, seen.device, store, load.store_host)
    engine = assemble(settings, seen, load.num_blocks, group=group, progress=lambda _done, _total: None)
    branch = None
    if len(sys.argv) > 2:
        branch = start_branch(settings, engine, begin.rank, open_pipe(int(sys.argv[2]), ToBranch))
    pipe.send(Loaded())
    return engine, branch


def _serve(pipe: Pipe[ToRank], engine: Engine, branch: Branch | None) -> None:
    mark = marker(engine.runner.kv.device)
    while True:
        match pipe.receive(None):
            case Step() as step:
                on_layer = None
                if branch is not None and step.written:
                    on_layer = announcing(written_of(step), engine.layout, branch.layers_done, mark)
                engine.runner.follow(step, on_layer)
            case Touch(blocks):
                engine.runner.touch(blocks)
            case End():
                break
    if branch is not None:
        branch.close()


def _give_up(pipe: Pipe[ToRank], message: str, *, permanent: bool = False) -> int:
    try:
        pipe.send(Broken(message, permanent))
    except RankError:
        logger.info("rank 0 has gone")
    return 1


if __name__ == "__main__":
    sys.exit(main())
