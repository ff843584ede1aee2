"""The router as a supervised process."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from headrace_operator.desired import Router
from headrace_operator.local.child import Child, Surroundings
from headrace_operator.observed import ObservedRouter


class RouterChild(Child):
    """The router; it reads the workers from `discovery`, a state file that the backend keeps current.

    `told` holds the URLs of the workers in that file, `workers` those that the router says it has.
    """

    ready_path = "/health"

    def __init__(self, router: Router, discovery: Path, surroundings: Surroundings) -> None:
        super().__init__("router", surroundings)
        self.router = router
        self.told: frozenset[str] = frozenset()
        self._discovery = discovery
        self._port = surroundings.settings.port

    def prepare(self, ready_file: Path) -> Sequence[str]:
        """Return the command; a port that was free at first is kept, clients know it."""
        return (
            *self._settings.router_command,
            *("--host", self._settings.host),
            *("--port", str(self._port)),
            *("--discovery", f"file:{self._discovery}"),
            *("--ready-file", str(ready_file)),
            *self._books(),
        )

    def _books(self) -> Sequence[str]:
        """Return what a router that keeps books is told; paths are the user's, relative to where it all began."""
        router = self.router
        if router.books is None:
            return ()
        files = {"--keys": router.keys_file, "--gate": router.gate_file, "--predictor": router.predictor_file}
        told = [(flag, str(Path(file).absolute())) for flag, file in files.items() if file is not None]
        if router.ledger_file is not None:
            told.append(("--ledger", f"sqlite:{Path(router.ledger_file).absolute()}"))
        return ("--spec", router.books, *(part for pair in told for part in pair))

    def ended(self) -> None:
        """Nobody waits for news of a router's end; clients connect again."""

    @property
    def settled(self) -> bool:
        """Whether it has taken over the workers it was told; until then somebody waits for it."""
        return self.told == self.workers

    def snapshot(self) -> ObservedRouter:
        """Return the router as a decision sees it."""
        if self.url is not None:
            self._port = urlsplit(self.url).port or self._port
        return ObservedRouter(self.router, self.phase, self.url, self.failure, self.workers)
