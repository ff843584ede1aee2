"""The image of Prometheus: the stock one where it can be pulled, else Debian's program with what it links to."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import capture
from e2e.cluster.debian import SUITE, unpack
from e2e.cluster.errors import CommandError
from e2e.cluster.image import import_files

if TYPE_CHECKING:
    from e2e.cluster.command import Progress
    from e2e.cluster.engine import Engine
    from e2e.cluster.home import Home

STOCK: Final = "docker.io/prom/prometheus:v2.53.0"

_OWN: Final = f"localhost/prometheus:{SUITE}"
_PROGRAM: Final = "usr/bin/prometheus"
_PULL_TIMEOUT_S: Final = 600.0


def ensure_prometheus_image(home: Home, engine: Engine, progress: Progress) -> str:
    """Return the name of an image whose entrypoint is Prometheus, got or built first where the engine lacks it."""
    for name in (_OWN, STOCK):
        if engine.has_image(name):
            return name
    progress(f"asking a registry for {STOCK}")
    try:
        engine.docker("pull", "--quiet", STOCK, timeout_s=_PULL_TIMEOUT_S)
    except CommandError:
        progress("it cannot be pulled here; taking Debian's package")
    else:
        return STOCK
    with tempfile.TemporaryDirectory() as folder:
        unpack("prometheus", Path(folder), log=home.build_logs / "apt.log", progress=progress)
        program = Path(folder) / _PROGRAM
        files = {_PROGRAM: (program, 0o755)}
        files |= {str(file).lstrip("/"): (file, 0o755) for file in linked(capture(["ldd", str(program)], timeout_s=20))}
        import_files(home, engine, files, name=_OWN, settings=(f'ENTRYPOINT ["/{_PROGRAM}"]',))
    return _OWN


def linked(printed: str) -> list[Path]:
    """Return the libraries and the loader that a program needs, from what `ldd` prints of it."""
    words = [line.partition("=>")[2].split() or line.split() for line in printed.splitlines()]
    return [Path(word[0]) for word in words if word and word[0].startswith("/")]
