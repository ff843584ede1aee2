from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from e2e.cluster import processes
from e2e.cluster.command import capture, labour
from e2e.cluster.deadline import wait_until
from e2e.cluster.errors import CommandError, MissingError, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[processes.Daemon]:
    daemon = processes.start("sleeper", ["sleep", "60"], log=tmp_path / "logs" / "sleeper.log")
    yield daemon
    processes.stop(daemon, grace_s=5)


def test_a_daemon_leads_a_session_of_its_own(sleeper: processes.Daemon) -> None:
    assert processes.is_alive(sleeper)
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_a_stopped_daemon_is_gone(sleeper: processes.Daemon) -> None:
    processes.stop(sleeper, grace_s=5)

    assert not processes.is_alive(sleeper)
    assert not psutil.pid_exists(sleeper.pid)


def test_a_daemon_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    daemon = processes.start("stubborn", [sys.executable, "-c", STUBBORN], log=log)
    wait_until(lambda: "deaf" in log.read_text(), timeout_s=20, what="It did not start")

    processes.stop(daemon, grace_s=0.1)

    assert not processes.is_alive(daemon)


def test_another_process_with_the_number_of_a_dead_one_is_left_alone(sleeper: processes.Daemon) -> None:
    earlier = processes.Daemon("earlier", sleeper.pid, sleeper.created_s - 100, sleeper.log)

    processes.stop(earlier, grace_s=1)

    assert not processes.is_alive(earlier)
    assert processes.is_alive(sleeper)


def test_free_ports_differ_and_can_be_taken() -> None:
    ports = processes.free_ports(5)

    assert len(set(ports)) == 5
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))


def test_a_failed_command_tells_its_last_lines() -> None:
    with pytest.raises(CommandError, match=r"ended with status 3:\nno such thing"):
        capture(["sh", "-c", "echo no such thing >&2; exit 3"], timeout_s=10)


def test_a_missing_program_is_told_by_its_name() -> None:
    with pytest.raises(MissingError, match="'headrace-none' was not found"):
        capture(["headrace-none"], timeout_s=10)


def test_a_command_past_its_deadline_is_ended() -> None:
    with pytest.raises(CommandError, match="did not end within 0 s"):
        capture(["sleep", "60"], timeout_s=0.1)


def test_labour_runs_at_the_lowest_priority_and_keeps_a_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"

    labour(["nice"], log=log, timeout_s=20, progress=print, what="a build")

    assert log.read_text() == "19\n"


def test_failed_labour_names_the_log_and_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "build.log"

    with pytest.raises(CommandError, match=r"a build: `sh` ended with status 4; all of .*build\.log:\nbroken"):
        labour(["sh", "-c", "echo broken; exit 4"], log=log, timeout_s=20, progress=print, what="a build")


def test_waiting_ends_at_the_deadline_with_a_sentence() -> None:
    with pytest.raises(StartError, match=r"The server was not ready after 0 s\."):
        wait_until(lambda: False, timeout_s=0.01, what="The server was not ready")
