"""Where `--discovery` says that workers are listed, and what every way of finding them can do."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

from headrace_router.discovery.worker import Worker
from headrace_router.errors import SettingsError

FORMS = "file:PATH[,PATH…], kubernetes:NAMESPACE/NAME[,NAMESPACE/NAME…] or none"

Changed = Callable[[tuple[Worker, ...], frozenset[str]], None]
"""Called with (ready workers, models that are known, with workers or without) after each change."""


class Discovery(Protocol):
    """One way of finding workers."""

    def start(self) -> None:
        """Say what is known before the router listens; raise SettingsError where nothing could ever be found."""

    async def run(self) -> None:
        """Follow the changes until cancelled."""


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """State files."""

    paths: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Pods:
    """Deployments by namespace, whose workers are pods."""

    names: Mapping[str, frozenset[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Nowhere:
    """No workers: all that the router serves are endpoints of others."""


def parse_source(text: str) -> Files | Pods | Nowhere:
    """Return what `--discovery` names; raise SettingsError where it names nothing, or one model twice."""
    if text == "none":
        return Nowhere()
    scheme, _, rest = text.partition(":")
    parts = tuple(part for part in rest.split(",") if part)
    if parts and scheme == "file":
        return Files(parts)
    if parts and scheme == "kubernetes":
        return _pods(text, parts)
    raise SettingsError(f"--discovery is {text!r}; expected {FORMS}")


def _pods(text: str, parts: tuple[str, ...]) -> Pods:
    names: dict[str, set[str]] = {}
    models: set[str] = set()
    for part in parts:
        namespace, slash, name = part.partition("/")
        if not slash or not namespace or not name or "/" in name:
            raise SettingsError(f"--discovery is {text!r}; {part!r} should be NAMESPACE/NAME")
        if name in models:
            raise SettingsError(f"--discovery names {name!r} twice; clients choose a model by its name alone")
        models.add(name)
        names.setdefault(namespace, set()).add(name)
    return Pods({namespace: frozenset(found) for namespace, found in names.items()})
