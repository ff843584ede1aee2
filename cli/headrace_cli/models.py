"""Downloads the models of a plan before anything starts, so that all workers load the same files."""

from collections.abc import Callable

from headrace_cli.display import Display
from headrace_cli.errors import RuntimeFailure
from headrace_operator.desired import Desired
from headrace_operator.plan import with_models

Resolve = Callable[[str, Callable[[int, int], None]], str]
"""Fetches the weights of a URI and returns the URI under which they lie on this machine."""


def fetch(desired: Desired, display: Display, resolve: Resolve) -> Desired:
    """Return the plan with every model on this machine's disk."""
    locations = {}
    for uri in dict.fromkeys(pool.template.model for pool in desired.pools):
        if uri.startswith("pvc://"):
            raise RuntimeFailure(f"model URI {uri!r} names a claim of a cluster; on this machine write file:///path")
        with display.download(uri) as progress:
            locations[uri] = resolve(uri, progress)
    return with_models(desired, locations)


def resolve(uri: str, progress: Callable[[int, int], None]) -> str:
    """Fetch with the worker's own code; raise RuntimeFailure with its sentence where that fails."""
    from headrace_worker.errors import WorkerError  # noqa: PLC0415 (other commands need no worker)
    from headrace_worker.fetch import resolve as fetch_model  # noqa: PLC0415

    try:
        return fetch_model(uri, progress=progress).path.absolute().as_uri()
    except WorkerError as error:
        raise RuntimeFailure(str(error)) from error
