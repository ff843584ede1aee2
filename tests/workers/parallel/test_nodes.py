"""One worker over two nodes: two Ray nodes on this machine, each with an address of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.workers.parallel.rig import Worker, eventually, running

from headrace_api import names

pytestmark = pytest.mark.processes
SECRET = "the deployment's own"
HEAD, OTHER = "127.0.0.1", "127.0.0.2"
PROMPTS = [[(7 * at + start) % 256 for at in range(size)] for start, size in ((3, 5), (201, 150))]
START_S = 300.0
"""Ray's processes take long to start on a machine that is busy."""


def free_port() -> int:
    with socket.create_server((HEAD, 0)) as probe:
        return int(probe.getsockname()[1])


class Member:
    """The program that the second node runs."""

    def __init__(self, folder: Path, port: int, secret: str = SECRET) -> None:
        folder.mkdir(parents=True)
        self.log = folder / "log"
        command = [sys.executable, "-m", "headrace_worker.parallel.node", "--join", HEAD, "--port", str(port)]
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                [*command, "--address", OTHER],
                stderr=log,
                env=os.environ | {"HEADRACE_SECRET": secret},
                start_new_session=True,
            )

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def below(self) -> list[psutil.Process]:
        return list(self.process.children(recursive=True))

    def kill(self) -> None:
        for process in (*self.below(), self.process) if self.process.is_running() else ():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)


@contextmanager
def spanning(folder: Path, model: Path, **settings: Any) -> Iterator[tuple[Worker, Member]]:
    """Start a worker of two ranks on two nodes."""
    port = free_port()
    worker = Worker(
        folder / "worker", model, tensor_parallel=2, nodes=2, ray_port=port, host=HEAD, secret=SECRET, **settings
    )
    member = Member(folder / "member", port)
    try:
        yield worker, member
    finally:
        worker.kill()
        member.kill()


def await_ready(worker: Worker) -> None:
    eventually(lambda: worker.ended or worker.client.get("/ready").status_code == 200, "it is ready", START_S)
    assert not worker.ended, worker.logged()


def processes_of(session: int) -> list[psutil.Process]:
    """Return the processes that live in a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def assert_nothing_is_left(*sessions: int) -> None:
    eventually(lambda: not any(processes_of(one) for one in sessions), "all processes of both nodes have ended", 60)


def test_two_nodes_answer_as_one_process_and_end_together(small: Path, tmp_path: Path) -> None:
    with running(tmp_path / "one", small) as alone:
        wanted = [alone.ask(prompt).tokens for prompt in PROMPTS]
    with spanning(tmp_path, small) as (worker, member):
        await_ready(worker)
        assert [worker.ask(prompt).tokens for prompt in PROMPTS] == wanted
        assert "1 of 2 nodes have joined" in worker.logged()
        assert any("engine.rank" in " ".join(one.cmdline()) for one in member.below())
        worker.process.terminate()
        assert worker.process.wait(60) == 0, worker.logged()
        assert member.process.wait(60) == 1
        assert "the head has gone" in member.logged()
        assert "Traceback" not in worker.logged() + member.logged()
        assert_nothing_is_left(worker.process.pid, member.process.pid)


def test_ranks_of_both_nodes_hand_their_heads_over(small: Path, tmp_path: Path) -> None:
    with running(tmp_path / "one", small) as alone:
        wanted = alone.ask(PROMPTS[1]).tokens
    deciding = {"role": "decode", "worker": "decode-0", "secret": SECRET}
    with (
        spanning(tmp_path, small, role="prefill", worker="prefill-0") as (prefill, _),
        running(tmp_path / "decode", small, **deciding) as decode,
    ):
        await_ready(prefill)
        headers = {names.HEADER_PREFILL_WORKERS: prefill.peer(), names.HEADER_DISAGGREGATE: "always"}
        # A peer that is busy for half a second is left out of a request: wait until this one is known.
        eventually(lambda: decode.ask([1, 2, 3], 1, headers).prefill == "prefill-0", "the peers know each other")
        answer = decode.ask(PROMPTS[1], headers=headers)
        assert (answer.prefill, answer.tokens) == ("prefill-0", wanted), decode.logged() + prefill.logged()


@pytest.mark.parametrize("killed", ["rank", "node"])
def test_the_death_of_a_rank_or_of_its_node_ends_the_whole_group_with_one_clear_line(
    small: Path, tmp_path: Path, killed: str
) -> None:
    with spanning(tmp_path, small) as (worker, member):
        await_ready(worker)
        (rank,) = [one for one in member.below() if "engine.rank" in " ".join(one.cmdline())]
        if killed == "node":
            member.kill()
        else:
            rank.send_signal(signal.SIGKILL)
        assert worker.process.wait(60) == 1
        ends = [line for line in worker.logged().splitlines() if "the whole worker ends with it" in line]
        how = "with its node" if killed == "node" else "by signal SIGKILL"
        assert [line.partition("the worker ends: ")[2] for line in ends] == [
            f"rank 1 of 2 has ended {how}; the whole worker ends with it"
        ]
        assert "Traceback" not in worker.logged()
        member.process.wait(60)
        assert_nothing_is_left(worker.process.pid, member.process.pid)


def test_nodes_that_cannot_share_the_ranks_evenly_are_refused(small: Path, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "worker", small, tensor_parallel=2, nodes=3, secret=SECRET)
    try:
        assert worker.process.wait(60) == 2
        assert "nodes is 3: the worker has 2 ranks, which cannot be shared evenly" in worker.logged()
    finally:
        worker.kill()


def test_a_worker_over_several_nodes_needs_a_secret(small: Path, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "worker", small, tensor_parallel=2, nodes=2)
    try:
        assert worker.process.wait(60) == 2
        assert "set HEADRACE_SECRET on every node" in worker.logged()
    finally:
        worker.kill()


def test_a_node_whose_head_never_comes_says_so_and_ends() -> None:
    command = [sys.executable, "-m", "headrace_worker.parallel.node", "--join", HEAD, "--port", str(free_port())]
    done = subprocess.run([*command, "--wait", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no head of the group at 127.0.0.1 port" in done.stderr
