"""Where the cluster keeps its things: parts built once, by version, and the data of the cluster that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.versions import cache_name, module_cache

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from e2e.cluster.versions import Module, Program


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of a cluster.

    Attributes:
        root: What is built once and shared by all clusters of this user.
        run: Data of one running cluster, gone when it is down; a test may name a folder of its own.
    """

    root: Path
    run: Path

    @property
    def parts(self) -> Path:
        """Built parts of these versions; other versions have folders of their own beside it."""
        return self.root / cache_name()

    @property
    def programs(self) -> Path:
        """Executables built from Go modules."""
        return self.parts / "bin"

    def module_parts(self, module: Module) -> Path:
        """Return the folder of what is built from a module."""
        return self.root / module_cache(module)

    def program(self, program: Program) -> Path:
        """Return the path of an executable, built or not."""
        return self.module_parts(program.module) / "bin" / program.name

    @property
    def build_logs(self) -> Path:
        """What the builds wrote."""
        return self.parts / "logs"

    @property
    def build_lock(self) -> Path:
        """Held while something is built, so that nothing is built twice at once."""
        return self.root / "build.lock"

    @property
    def engine(self) -> Path:
        """Data of our own container engine: images stay here between clusters."""
        return self.root / "engine"

    @property
    def logs(self) -> Path:
        """What the processes of the running cluster write."""
        return self.run / "logs"

    @property
    def state(self) -> Path:
        """The one file that says what runs."""
        return self.run / "state.json"

    @property
    def run_lock(self) -> Path:
        """Held while this cluster is started or taken away; outside of `run`, which goes away with it."""
        return self.run.with_name(f"{self.run.name}.lock")


def user_home(environment: Mapping[str, str], user: Path) -> Home:
    """Return the folders below `$XDG_CACHE_HOME`, or below `~/.cache` where that is unset or not absolute."""
    configured = environment.get("XDG_CACHE_HOME", "")
    cache = type(user)(configured) if configured.startswith("/") else user / ".cache"
    root = cache / "headrace" / "cluster"
    return Home(root, root / "run")
