"""A worker as a supervised process: its settings file, its incarnations, its port."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from headrace_operator.desired import Pool, WorkerName
from headrace_operator.local.child import Child, Surroundings
from headrace_operator.local.machine import port_is_free
from headrace_operator.local.state import write_json
from headrace_operator.observed import Worker

WORKER_HOST = "127.0.0.1"
"""Workers of one machine talk to each other and to the router on it; nobody else may reach them."""


class WorkerChild(Child):
    """One worker of a pool.

    Args:
        pool: what it belongs to; a later `EnsurePool` replaces it, with effect from the next start.
        secret: of the deployment.
        gone: called with this worker and an incarnation whose processes have all ended.
    """

    def __init__(
        self,
        name: WorkerName,
        pool: Pool,
        secret: str,
        surroundings: Surroundings,
        gone: Callable[["WorkerChild", str], None],
    ) -> None:
        super().__init__(name, surroundings)
        self.worker = name
        self.pool = pool
        self.incarnation = ""
        self._secret = secret
        self._gone = gone
        self._port = 0

    def prepare(self, ready_file: Path) -> Sequence[str]:
        """Write the settings of a new incarnation, readable by this user only, since they carry the secret."""
        self.incarnation = os.urandom(8).hex()
        path = self._settings.folder / f"{self.name}.json"
        write_json(path, self._worker_settings(ready_file), mode=0o600)
        return (*self._settings.worker_command, "--settings", str(path))

    def ended(self) -> None:
        """Vouch for the end of this incarnation."""
        self._gone(self, self.incarnation)

    def snapshot(self) -> Worker:
        """Return this worker as a decision sees it."""
        if self.url is not None:
            self._port = urlsplit(self.url).port or 0
        return Worker(
            self.worker,
            self.pool.deployment,
            self.pool.role,
            self.phase,
            self.incarnation,
            self.url,
            self.progress,
            self.failure,
            self.pool.revision,
            self.pool.pairing,
        )

    def _worker_settings(self, ready_file: Path) -> dict[str, object]:
        """Return the worker's settings; what is None is left to the worker's own default."""
        own = {
            "name": self.pool.deployment,
            "worker": self.worker,
            "role": self.pool.role,
            "incarnation": self.incarnation,
            "host": WORKER_HOST,
            "port": self._port if self._port and port_is_free(WORKER_HOST, self._port) else 0,
            "ready_file": str(ready_file),
            "secret": self._secret,
        }
        return {key: value for key, value in asdict(self.pool.template).items() if value is not None} | own
