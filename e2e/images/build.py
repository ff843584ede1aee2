"""Builds the images that a test needs, each only where the engine lacks it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.command import Progress, labour
from e2e.cluster.debian import IMAGE_TOOLS, ensure_root, ensure_tools
from e2e.cluster.errors import CommandError
from e2e.cluster.image import import_root
from e2e.images import recipe

if TYPE_CHECKING:
    from e2e.cluster.engine import Engine
    from e2e.cluster.home import Home

ROOT: Final = Path(__file__).parents[2]

_BUNDLE: Final = Path("etc/ssl/certs/ca-certificates.crt")
_BUILD_TIMEOUT_S: Final = 2400.0
_PULL_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Images:
    """The names of the images of this working tree."""

    operator: str
    router: str
    worker: str


def ensure_images(home: Home, engine: Engine, progress: Progress, *, accelerator: str = "cpu") -> Images:
    """Return the images of this working tree, built first where the engine lacks them.

    Raises:
        CommandError: A build failed; the message has its last lines.
    """
    base = _ensure_base(home, engine, progress)
    names = {part: recipe.image_name(part, ROOT, base, accelerator) for part in recipe.PARTS}
    arguments = recipe.build_arguments(base, accelerator, os.environ)
    for part, name in names.items():
        if engine.has_image(name):
            continue
        progress(f"building {name}")
        stage = f"{part}-packages"
        for target, tag in ((stage, recipe.packages_name(part, ROOT, accelerator)), (part, name)):
            command = f"docker build --network=host --target {target} --tag {tag}".split()
            labour(
                [*command, "--file", str(ROOT / "images" / "Dockerfile"), *arguments, str(ROOT)],
                log=home.build_logs / f"image-{target}.log",
                timeout_s=_BUILD_TIMEOUT_S,
                progress=progress,
                what=f"building {target}",
                environment={**engine.environment, "DOCKER_BUILDKIT": "0"},
            )
        _forget_others(engine, part, name)
    return Images(**names)


def _ensure_base(home: Home, engine: Engine, progress: Progress) -> str:
    """Return the base to build from: the stock one where it can be had, else one of Debian packages."""
    for name in (recipe.base_name(), recipe.STOCK_BASE):
        if engine.has_image(name):
            return name
    progress(f"asking a registry for {recipe.STOCK_BASE}")
    try:
        engine.docker("pull", "--quiet", recipe.STOCK_BASE, timeout_s=_PULL_TIMEOUT_S)
    except CommandError:
        progress("it cannot be pulled here; making a base of Debian packages")
    else:
        return recipe.STOCK_BASE
    ensure_tools(IMAGE_TOOLS, log=home.build_logs / "apt.log", progress=progress)
    root = home.parts / recipe.base_name().rpartition("/")[2].replace(":", "-")
    ensure_root(root, recipe.BASE_PACKAGES, log=home.build_logs / "debootstrap-base.log", progress=progress)
    shutil.copyfile(Path("/") / _BUNDLE, root / _BUNDLE)  # the build trusts whom this machine trusts
    for folder in recipe.BASE_LEFTOVERS:
        shutil.rmtree(root / folder, ignore_errors=True)
    import_root(home, engine, root, name=recipe.base_name(), settings=(), progress=progress)
    shutil.rmtree(root)
    return recipe.base_name()


def _forget_others(engine: Engine, part: str, name: str) -> None:
    """Remove the images of earlier working trees; their packages stay."""
    listed = engine.docker("image", "ls", recipe.family(part), "--format", "{{.Repository}}:{{.Tag}}").split()
    for other in listed:
        if other != name:
            engine.docker("image", "rm", other)
