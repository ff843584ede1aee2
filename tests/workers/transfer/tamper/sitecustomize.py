"""Brings a fault into a real engine at an exact moment; Python runs this file first where its folder is on the path.

`HEADRACE_TAMPER` is JSON. `flag` is a file whose existence arms the fault for one time. With `layer` and `signal` a
prefill engine gets the signal right after that layer of a hand-off has been written. Without them a decode engine
misses the next admission, and sees each one again with every later one, armed or not.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0


def fired(flag: Path) -> bool:
    """Take the flag down; True for who did."""
    try:
        flag.unlink()
    except FileNotFoundError:
        return False
    return True


def await_written(source: Any) -> None:
    """Wait until everything that the engine has announced lies in the decode worker's memory."""
    end_s = time.monotonic() + DEADLINE_S
    while source.granted_s is None or any(piece.ended_s is None for piece in source.pieces):
        assert time.monotonic() < end_s, "nothing was granted or written in time"
        time.sleep(0.001)


def strike_after(layer: int, number: int, flag: Path) -> None:
    """Send the engine's process group a signal behind this layer; SIGKILL meets the engine alone."""
    from headrace_worker.engine import layers  # noqa: PLC0415 - not in every Python that starts on this path
    from headrace_worker.transfer.courier import Courier  # noqa: PLC0415

    layers._WRITE_BYTES = 1  # each layer is announced alone
    announce = Courier.layers_done

    def layers_done(self: Courier, attempt: str, done: range, *rest: Any) -> None:
        announce(self, attempt, done, *rest)
        if layer in done and flag.exists():
            end_s = time.monotonic() + DEADLINE_S
            while (job := self._prefill._jobs.get(attempt)) is None and time.monotonic() < end_s:
                time.sleep(0.001)
            assert job is not None, "the courier does not know the attempt"
            while self._notes:
                time.sleep(0.001)
            await_written(job.source)
            if fired(flag):
                os.kill(os.getpid() if number == 9 else 0, number)

    Courier.layers_done = layers_done  # type: ignore[method-assign,assignment]


def mishear(flag: Path) -> None:
    """Lose and repeat admissions on their way from the transport."""
    from headrace_worker.transfer.nixl import NixlTransport  # noqa: PLC0415

    arrive, heard = NixlTransport.notifications, []

    def notifications(self: NixlTransport) -> list[Any]:
        new = arrive(self)
        if not new or fired(flag):
            return []
        heard.extend(new)
        return [*heard, *new]

    NixlTransport.notifications = notifications  # type: ignore[method-assign]


if "HEADRACE_TAMPER" in os.environ and "headrace_worker.engine" in sys.orig_argv:
    wanted = json.loads(os.environ["HEADRACE_TAMPER"])
    if "layer" in wanted:
        strike_after(wanted["layer"], wanted["signal"], Path(wanted["flag"]))
    else:
        mishear(Path(wanted["flag"]))
