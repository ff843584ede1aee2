"""The state file: where the router and the workers are, as JSON that the router and other programs read."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headrace_operator.observed import Endpoint


def document(
    router: tuple[str, int] | None, endpoints: Iterable[Endpoint], pids: Mapping[str, int], models: Iterable[str]
) -> dict[str, Any]:
    """Return the state; a worker without a process is left out.

    Args:
        router: its URL and process id, None while it does not listen.
        endpoints: the workers that may be used.
        pids: by worker name: the leader of the worker's process group.
        models: names of the deployments that are served, with workers or without.
    """
    return {
        "router": None if router is None else {"url": router[0], "pid": router[1]},
        "models": sorted(models),
        "workers": [
            {
                "deployment": endpoint.deployment,
                "role": endpoint.role,
                "url": endpoint.url,
                "pid": pids[endpoint.name],
                "worker": endpoint.name,
                "name": endpoint.name,
                "incarnation": endpoint.incarnation,
                "pairing": endpoint.pairing,
            }
            for endpoint in endpoints
            if endpoint.name in pids
        ],
    }


def write_json(path: Path, content: Mapping[str, Any], mode: int = 0o644) -> None:
    """Write `content` so that a reader sees the old file or the new one, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            json.dump(content, file, indent=1)
            file.write("\n")
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file that another process writes atomically; None while it is not there."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
