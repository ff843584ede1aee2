"""What an image is made of, its name and the words of its build: pure but for reading the files that go in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PARTS: Final = ("operator", "router", "worker")

STOCK_BASE: Final = "docker.io/library/python:3.11-slim-bookworm"

BASE_PACKAGES: Final = ("ca-certificates", "g++", "python-is-python3", "python3", "python3-pip")
"""Debian packages of a base that is built here: Python as the stock one has it, and the worker's compiler."""

BASE_LEFTOVERS: Final = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man")
"""Folders of that base that no program reads."""

INDEX_VARIABLES: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "UV_DEFAULT_INDEX", "UV_INDEX")
"""Settings of pip and uv that the build takes over from the environment."""

PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Settings that Docker hands to a build without its being told in the Dockerfile."""

_CODE: Final = {
    "operator": ("crds/headrace_api", "operator/headrace_operator"),
    "router": ("crds/headrace_api", "router/headrace_router"),
    "worker": ("crds/headrace_api", "workers/headrace_worker"),
}
_PREFIX: Final = "localhost/headrace-"
_DIGITS: Final = 12


def base_name() -> str:
    """Return the name of the base that is built here; other packages give another name."""
    return f"{_PREFIX}base:{_digest([' '.join(BASE_PACKAGES + BASE_LEFTOVERS).encode()])}"


def image_name(part: str, root: Path, base: str, accelerator: str) -> str:
    """Return the name of one part's image; its tag changes when anything that goes in changes.

    Args:
        part: One of `PARTS`.
        root: Folder of the repository.
        base: Image that it is built from.
        accelerator: `nvidia` or `cpu`, for the worker.
    """
    recipe = [root / "images" / "Dockerfile", root / "images" / "trim.py", root / "locks" / f"{part}.txt"]
    pieces = [base.encode(), accelerator.encode()]
    for file in [*recipe, *_code(part, root)]:
        pieces += [str(file.relative_to(root)).encode(), file.read_bytes()]
    return f"{_PREFIX}{part}:{_digest(pieces)}"


def family(part: str) -> str:
    """Return the name that all images of one part share."""
    return f"{_PREFIX}{part}"


def packages_name(part: str, root: Path, accelerator: str) -> str:
    """Return the name under which the stage with a part's packages is kept, so that cleaning up spares it."""
    pieces = [(root / "locks" / f"{part}.txt").read_bytes(), accelerator.encode()]
    return f"{_PREFIX}{part}-packages:{_digest(pieces)}"


def build_arguments(base: str, accelerator: str, environment: Mapping[str, str]) -> list[str]:
    """Return the build arguments: what to build from and for, and where packages come from on this machine."""
    given = {"BASE": base, "ACCELERATOR": accelerator}
    given |= {name: environment[name] for name in (*INDEX_VARIABLES, *PROXY_VARIABLES) if environment.get(name)}
    return [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]


def _code(part: str, root: Path) -> list[Path]:
    files = [file for folder in _CODE[part] for file in (root / folder).rglob("*")]
    return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)


def _digest(pieces: list[bytes]) -> str:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(hashlib.sha256(piece).digest())
    return whole.hexdigest()[:_DIGITS]
