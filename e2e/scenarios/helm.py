"""The real helm, and a release of the chart as its users have it: packed, installed, changed and removed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import capture

if TYPE_CHECKING:
    from e2e.scenarios.space import Object

CHART: Final = Path(__file__).parents[2] / "charts" / "headrace"
RELEASE: Final = "headrace"

_WAIT_S: Final = 180


@dataclass(frozen=True, slots=True)
class Helm:
    """helm with the rights of an administrator and folders of its own.

    Attributes:
        program: The executable.
        kubeconfig: The way to the cluster.
        folder: Where it keeps what it keeps, and packed charts.
    """

    program: Path
    kubeconfig: Path
    folder: Path

    def __call__(self, *arguments: str, timeout_s: float = 60.0, stdin: str | None = None) -> str:
        """Run one command and return what it printed."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return capture(command, timeout_s=timeout_s, environment=self.environment, stdin=stdin)

    @property
    def environment(self) -> dict[str, str]:
        """What keeps helm away from the user's own folders."""
        return {f"HELM_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}

    def pack(self, version: str) -> Path:
        """Return the chart of this tree as an archive of this version; its images bear the version as their tag."""
        told = self(
            "package", str(CHART), "--version", version, "--app-version", version, "--destination", str(self.folder)
        )
        return Path(told.partition("saved it to:")[2].strip())


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the chart in one namespace."""

    helm: Helm
    namespace: str
    name: str = RELEASE

    def install(self, chart: Path, values: Object) -> None:
        """Install it and wait until it is up."""
        self._with_values("install", chart, values)

    def upgrade(self, chart: Path, values: Object) -> None:
        """Bring it to another version of the chart or to other values, and wait until it is up."""
        self._with_values("upgrade", chart, values)

    def rollback(self) -> None:
        """Bring it back to what it was before the last change, and wait until it is up."""
        self._run("rollback", self.name, "--wait", f"--timeout={_WAIT_S}s")

    def uninstall(self) -> None:
        """Take it away; fine where it is not there."""
        self._run("uninstall", self.name, "--ignore-not-found", "--wait", f"--timeout={_WAIT_S}s")

    def test(self, timeout_s: int = _WAIT_S) -> str:
        """Run the chart's own tests and return what helm printed, their logs included."""
        return self._run("test", self.name, "--logs", f"--timeout={timeout_s}s")

    def _with_values(self, verb: str, chart: Path, values: Object) -> None:
        wait = ("--wait", f"--timeout={_WAIT_S}s")
        self._run(verb, self.name, str(chart), *wait, "--values=-", stdin=json.dumps(values))

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        command = ("--namespace", self.namespace, *arguments)
        return self.helm(*command, timeout_s=_WAIT_S + 20, stdin=stdin)
