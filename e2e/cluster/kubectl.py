"""kubectl, called with one kubeconfig and a deadline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.command import capture
from e2e.cluster.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


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
        self("wait", "--for=condition=Established", f"--timeout={timeout_s:g}s", *arguments, timeout_s=timeout_s + 10)

    def answers(self) -> bool:
        """Say whether the API server says that it is ready."""
        try:
            return self("get", "--raw", "/readyz", "--request-timeout=2s", timeout_s=5).strip() == "ok"
        except CommandError:
            return False
