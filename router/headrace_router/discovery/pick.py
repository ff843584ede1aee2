"""Which way of finding workers a router uses."""

import os

from headrace_router.discovery.file import FileDiscovery
from headrace_router.discovery.source import Changed, Discovery, Files, Nowhere, parse_source
from headrace_router.settings import RouterSettings


class NoDiscovery:
    """Finds nothing, and never will."""

    def start(self) -> None:
        """There is nothing to say."""

    async def run(self) -> None:
        """There is nothing to follow."""


def pick(settings: RouterSettings, changed: Changed) -> Discovery:
    """Return what finds workers as the settings say; raise SettingsError where it cannot be had."""
    source = parse_source(settings.discovery)
    if isinstance(source, Files):
        return FileDiscovery(source.paths, changed)
    if isinstance(source, Nowhere):
        return NoDiscovery()
    # Only here: the client of the API server is more than all of the rest of the router in memory.
    from headrace_router.discovery.access import find_access  # noqa: PLC0415
    from headrace_router.discovery.kubernetes import KubernetesDiscovery  # noqa: PLC0415

    return KubernetesDiscovery(source.names, find_access(os.environ, settings.kubeconfig), changed)
