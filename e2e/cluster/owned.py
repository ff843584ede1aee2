"""What the clusters that we start ourselves have in common: one at a time in a folder, cleared up before and after."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from e2e.cluster import processes
from e2e.cluster.base import Cluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.state import State, read_state, write_state
from filelock import FileLock
from msgspec.structs import replace

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.cluster.command import Progress
    from e2e.cluster.home import Home

_LOCK_TIMEOUT_S: Final = 7200.0
"""As long as another command may need that builds everything."""


class OwnedCluster(Cluster):
    """A cluster whose processes, files and images lie in a `Home`.

    Args:
        home: Where parts and data lie; a test that wants a cluster of its own gives a `run` folder of its own.
        progress: Takes lines for the person who waits.
    """

    provider: ClassVar[str]

    def __init__(self, home: Home, progress: Progress) -> None:
        self._home = home
        self._progress = progress

    @property
    def kubeconfig(self) -> Path:
        return self._home.run / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        return self._home.programs / "kubectl"

    def up(self) -> None:
        self._home.run.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._home.run_lock, timeout=_LOCK_TIMEOUT_S):
            self._clear()
            try:
                self._start()
            except BaseException:
                self._clear()
                raise
            self._record(ready=True)

    def down(self) -> None:
        if self._home.run.exists():
            with FileLock(self._home.run_lock, timeout=_LOCK_TIMEOUT_S):
                self._clear()
        self._home.run_lock.unlink(missing_ok=True)

    @abstractmethod
    def _start(self) -> None:
        """Start the cluster and wait until it can be used; everything started is in the state file at once."""

    @abstractmethod
    def _end(self, state: State) -> None:
        """End what the state file says, whether it still runs or not."""

    def _clear(self) -> None:
        state = read_state(self._home.state)
        if state is not None and state.provider != self.provider:
            raise ClusterError(
                f"A cluster of the provider {state.provider!r} uses {self._home.run}; "
                f"take it away first: make cluster-down CLUSTER={state.provider}."
            )
        if state is not None:
            self._end(state)
        shutil.rmtree(self._home.run, ignore_errors=True)

    def _state(self) -> State:
        state = read_state(self._home.state)
        if state is None:
            raise ClusterError("No cluster runs; start one: make cluster-up.")
        return state

    def _record(self, **changes: object) -> None:
        write_state(self._home.state, replace(self._state(), **changes))

    def _daemon_lines(self, state: State) -> list[str]:
        return [
            f"{each.name}: {'runs' if processes.is_alive(each) else 'has ended'}, process {each.pid}, log {each.log}"
            for each in state.daemons
        ]
