"""Reads the files named on the command line."""

from collections.abc import Iterable

from headrace_api.resources import ManifestError, Resource, load_manifests
from headrace_cli.errors import UsageError


def load(paths: Iterable[str]) -> list[Resource]:
    """Return the resources of all files, in order; raise UsageError naming every fault of every file."""
    resources: list[Resource] = []
    faults: list[str] = []
    for path in paths:
        try:
            resources += load_manifests(path)
        except ManifestError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("\n".join(faults))
    return resources
