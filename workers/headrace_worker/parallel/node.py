"""One node of a worker that spans several: runs Ray there until the head has gone, or the worker itself.

`python -m headrace_worker.parallel.node --address HOST --head` is started by rank 0, and ends with its standard input.
`… --join HOST --port N` is what the other nodes run: it waits for the head, joins, and ends when the head has gone, so
that whoever restarts it makes the whole group anew.
"""

import argparse
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final, NoReturn

import psutil

from headrace_worker.parallel.address import address_towards
from headrace_worker.parallel.lifeline import become_reaper, die_with_parent
from headrace_worker.parallel.place import SECRET
from headrace_worker.parallel.raylet import environment
from headrace_worker.parallel.scratch import scratch

logger = logging.getLogger(__name__)
RANKS: Final = "headrace_ranks"
"""Ray's name for the places of ranks on a node."""
HEAD: Final = "headrace_head"
LOG: Final = "HEADRACE_LOG"
"""Where ranks of this node write their log: Ray would keep it in files of its own."""
_STORE_BYTES: Final = 80_000_000
"""Of Ray's object store, which is not used; it takes no less."""
_LOOK_S: Final = 1.0
_SAY_S: Final = 10.0
_STOP_S: Final = 5.0
_TOLD = 5
_JOINED = "Ray runtime started"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one node; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m headrace_worker.parallel.node", description=__doc__)
    parser.add_argument("--head", action="store_true", help="start the group's head")
    parser.add_argument("--join", metavar="HOST", help="join the head at this host")
    parser.add_argument("--address", help="this node's own address (default: the one towards the head)")
    parser.add_argument("--port", type=int, default=6379, help="the head's port (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=1, help="ranks that this node takes (default: %(default)s)")
    parser.add_argument("--wait", type=float, default=900.0, help="seconds to wait for the head (default: %(default)s)")
    parser.add_argument("--pod", help="name of this pod; its number stands for {group} in HOST, after division")
    parser.add_argument("--members", type=int, default=1, help="pods of a group beside the head (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.pod is not None and given.join is not None:
        given.join = head_of(given.join, given.pod, given.members)
    if given.head == (given.join is not None) or (given.head and given.address is None):
        parser.error("give --head with --address, or --join HOST")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s node %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if given.head else _stop)
    become_reaper()
    if given.head:
        places = {HEAD: 1.0, **({RANKS: float(given.ranks)} if given.ranks else {})}
        where = ("--head", "--port", str(given.port), "--include-dashboard", "false", *_client_port(given.address))
        return _run(where, given.address, places, lifeline=sys.stdin.fileno())
    if not _await_head(given.join, given.port, given.wait):
        logger.error("no head of the group at %s port %d within %g s", given.join, given.port, given.wait)
        return 1
    # Of both sides of a group that is taken away this one must not end first: the head still finishes its requests.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    host = socket.getaddrinfo(given.join, given.port, type=socket.SOCK_STREAM)[0][4][0]
    own = given.address or address_towards(str(host))
    address = f"[{host}]:{given.port}" if ":" in str(host) else f"{host}:{given.port}"
    return _run(("--address", address), own, {RANKS: float(given.ranks)}, lifeline=None)


def head_of(pattern: str, pod: str, members: int) -> str:
    """Return the head that a member joins: pods NAME-0 to NAME-(members - 1) are of group 0, and so on.

    Raises:
        ValueError: the pod's name does not end with a number.
    """
    return pattern.replace("{group}", str(int(pod.rpartition("-")[2]) // members))


def _await_head(host: str, port: int, wait_s: float) -> bool:
    """Return whether somebody listens at the head's address before the time is over."""
    until, said = time.monotonic() + wait_s, 0.0
    while time.monotonic() < until:
        try:
            socket.create_connection((host, port), timeout=_LOOK_S).close()
        except OSError as error:
            if time.monotonic() - said >= _SAY_S:
                said = time.monotonic()
                logger.info("waiting for the head of the group at %s port %d: %s", host, port, error)
            time.sleep(_LOOK_S)
        else:
            return True
    return False


def _run(where: Sequence[str], own: str, places: dict[str, float], *, lifeline: int | None) -> int:
    """Run Ray's processes until one of them ends, or the lifeline."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--node-ip-address", own]
    command += ["--resources", json.dumps(places), "--num-cpus", "0", "--num-gpus", "0"]
    command += ["--object-store-memory", str(_STORE_BYTES), "--disable-usage-stats", "--include-log-monitor", "false"]
    command += ["--log-style", "record", "--log-color", "false", "--block"]
    with scratch() as folder:
        said = folder / "start.log"
        try:
            with said.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - our own words
                    [*command, "--temp-dir", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | environment(os.environ.get(SECRET, "")) | {LOG: _own_log()},
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
                )
            if _await_end(process, lifeline):
                return 0
            logger.error(_end_of(said.read_text(errors="replace")))
            return 1
        finally:
            _clear()


def _end_of(said: str) -> str:
    """Return why Ray has ended here, from what `ray start` said."""
    if _JOINED in said:
        return "Ray has ended on this node, as it does when the head has gone; the group starts again"
    last = [line for line in said.splitlines() if line.strip()][-_TOLD:]
    return f"Ray could not start on this node: {' | '.join(last) or 'it said nothing'}"


def _await_end(process: "subprocess.Popen[bytes]", lifeline: int | None) -> bool:
    """Return True at the end of the lifeline, False at that of the process."""
    while process.poll() is None:
        if lifeline is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
        elif select.select([lifeline], [], [], _LOOK_S)[0] and not os.read(lifeline, 4096):
            return True
    return False


def _clear() -> None:
    """End all processes below this one; those whose parents have gone are its own."""
    processes = psutil.Process().children(recursive=True)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                end(process)
        psutil.wait_procs(processes, timeout=_STOP_S)
        processes = psutil.Process().children(recursive=True)


def _own_log() -> str:
    """Return a name by which processes below this one can open its standard error."""
    return f"/proc/{os.getpid()}/fd/2"


def _client_port(host: str) -> tuple[str, ...]:
    """Return the option that keeps Ray's server for clients, which nobody asks for, from a port that may be taken.

    It starts wherever its packages are installed, and Ray refuses the option where they are not.
    """
    try:
        import grpc  # noqa: F401, PLC0415 - by its presence Ray decides
    except ImportError:
        return ()
    return "--ray-client-server-port", str(_free_port(host))


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return int(probe.getsockname()[1])


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
