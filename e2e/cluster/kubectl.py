"""kubectl, called with one kubeconfig and a deadline."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.command import capture
from e2e.cluster.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_NO_CONDITIONS = ".status.conditions accessor error"


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

    def define(self, files: Iterable[Path], *, timeout_s: float) -> None:
        """Apply custom resource definitions, over those of others too, and wait until the API server serves them."""
        arguments = [word for path in sorted(files) for word in ("-f", str(path))]
        self("apply", "--server-side", "--force-conflicts", "--validate=strict", *arguments)
        self.await_served(*arguments, timeout_s=timeout_s)

    def await_served(self, *definitions: str, timeout_s: float) -> None:
        """Wait until the API server serves what these definitions define.

        Args:
            definitions: `crd/NAME`, or `-f` and `PATH`.
            timeout_s: how long at most.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            left_s = max(1.0, end_s - time.monotonic())
            try:
                self(
                    "wait", "--for=condition=Established", f"--timeout={left_s:g}s", *definitions, timeout_s=left_s + 10
                )
            except CommandError as error:
                # A definition that has no conditions yet is an error to `kubectl wait`, not one to wait for.
                if _NO_CONDITIONS not in str(error) or time.monotonic() > end_s:
                    raise
            else:
                return

    def answers(self) -> bool:
        """Say whether the API server says that it is ready."""
        try:
            return self("get", "--raw", "/readyz", "--request-timeout=2s", timeout_s=5).strip() == "ok"
        except CommandError:
            return False
