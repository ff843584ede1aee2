"""kubectl, called with one kubeconfig and a deadline."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import capture
from e2e.cluster.errors import CommandError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A kubectl and the kubeconfig that it uses."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, timeout_s: float = 60.0, stdin: str | None = None) -> str:
        """Run one command and return what it printed."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return capture(command, timeout_s=timeout_s, stdin=stdin)

    def apply(self, objects: Sequence[dict[str, object]], *, timeout_s: float = 60.0) -> None:
        """Apply objects; fields that the API server does not know are an error."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self("apply", "--server-side", "--validate=strict", "-f", "-", timeout_s=timeout_s, stdin=text)

    def answers(self) -> bool:
        """Say whether the API server says that it is ready."""
        try:
            return self("get", "--raw", "/readyz", "--request-timeout=2s", timeout_s=5).strip() == "ok"
        except CommandError:
            return False


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Wait until `condition` holds.

    Raises:
        StartError: It does not hold after `timeout_s`; `what` is told as the thing that was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StartError(f"{what} after {timeout_s:.0f} s.")
        time.sleep(_POLL_S)
