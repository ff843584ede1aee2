from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e.cluster import processes
from e2e.cluster.base import Status
from e2e.cluster.deadline import wait_until
from e2e.cluster.errors import ClusterError, StartError
from e2e.cluster.home import Home
from e2e.cluster.owned import OwnedCluster
from e2e.cluster.state import State, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SleepCluster(OwnedCluster):
    """A cluster of one process that sleeps."""

    provider = "sleep"
    fails = False
    ended: tuple[processes.Daemon, ...] = ()

    def status(self) -> Status:
        return Status("sleep", running=False, kubeconfig=self.kubeconfig)

    def load(self, *images: str) -> None:
        raise ClusterError(" and ".join(images))

    def _start(self) -> None:
        write_state(self._home.state, State("sleep", str(self.kubeconfig)))
        self._record(daemons=(processes.start("sleep", ["sleep", "60"], log=self._home.logs / "sleep.log"),))
        if self.fails:
            raise StartError("It did not start.")

    def _end(self, state: State) -> None:
        for daemon in state.daemons:
            processes.stop(daemon, grace_s=5)
        self.ended = state.daemons


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "root", tmp_path / "run")


@pytest.fixture
def cluster(home: Home) -> Iterator[SleepCluster]:
    cluster = SleepCluster(home, print)
    yield cluster
    cluster.down()


def sleeper(home: Home) -> processes.Daemon:
    state = read_state(home.state)
    assert state is not None
    return state.daemons[0]


def test_a_cluster_is_ready_once_it_has_started(cluster: SleepCluster, home: Home) -> None:
    cluster.up()

    state = read_state(home.state)
    assert state is not None
    assert state.ready
    assert processes.is_alive(sleeper(home))


def test_a_second_start_takes_the_first_cluster_away(cluster: SleepCluster, home: Home) -> None:
    cluster.up()
    first = sleeper(home)

    cluster.up()

    assert not processes.is_alive(first)
    assert processes.is_alive(sleeper(home))


def test_what_a_killed_command_left_is_found_by_the_state_file(cluster: SleepCluster, home: Home) -> None:
    left = processes.start("sleep", ["sleep", "60"], log=home.logs / "sleep.log")
    write_state(home.state, State("sleep", "", ready=False, daemons=(left,)))

    cluster.up()

    assert not processes.is_alive(left)


def test_a_failed_start_leaves_nothing(cluster: SleepCluster, home: Home) -> None:
    cluster.fails = True

    with pytest.raises(StartError, match="It did not start"):
        cluster.up()

    assert [processes.is_alive(each) for each in cluster.ended] == [False]
    assert not home.run.exists()


def test_taking_away_leaves_neither_folder_nor_lock(cluster: SleepCluster, home: Home, tmp_path: Path) -> None:
    cluster.up()
    daemon = sleeper(home)

    cluster.down()

    assert not processes.is_alive(daemon)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_has_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    daemon = processes.start("brief", ["sh", "-c", "echo no room; exit 1"], log=tmp_path / "log")
    wait_until(lambda: not processes.is_alive(daemon), timeout_s=20, what="It did not end")

    with pytest.raises(StartError, match=r"brief has ended; the last lines of its log:\nno room"):
        processes.require_alive(daemon)

    processes.stop(daemon, grace_s=1)
