# noqa: INP001 - no package: the Dockerfile copies this one file
"""Takes out of installed packages what an image never uses: `python trim.py FOLDER --accelerator nvidia|cpu`.

torch from the package index links CUDA's libraries, so importing it needs them even where no GPU is. For `cpu` the big
ones are replaced by libraries with the same name, symbols and versions whose functions end the process: loading works
as before, and nothing is called, for torch finds no GPU first. That takes 4 GB out of the image.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

BIG_BYTES: Final = 8 << 20
"""Smaller libraries stay: the CUDA runtime is one of them, and its answer "no driver" is what torch asks for."""

UNUSED: Final = ("nixl_ep*",)
"""Parts of installed packages that nothing of ours imports."""

UNUSED_WITHOUT_GPU: Final = (
    "triton",
    "nvidia/*/include",
    "nvidia/*/lib/*.bc",
    "torch/include",
    "torch/lib/libtorch_cuda_linalg.so",
)
"""The compiler for GPU kernels, headers, code for devices, and a library that torch loads when a GPU factorises."""

_DATA: Final = frozenset("BDGRSVu")
_TIMEOUT_S: Final = 300


def main(arguments: list[str]) -> int:
    """Trim one folder and return the exit status."""
    parser = argparse.ArgumentParser(description="Take out of installed packages what an image never uses.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accelerator", choices=("nvidia", "cpu"), required=True)
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    _remove(folder, (*UNUSED, *other_nixl((folder / "torch" / "version.py").read_text())))
    if options.accelerator == "cpu":
        _remove(folder, UNUSED_WITHOUT_GPU)
        for library in sorted((folder / "nvidia").rglob("*.so*")):
            if library.stat().st_size > BIG_BYTES:
                _hollow(library)
    return 0


def other_nixl(torch_version: str) -> tuple[str, ...]:
    """Return patterns of the NIXL builds for other CUDA versions than torch's, given torch's version file.

    Raises:
        ValueError: The file does not say for which CUDA torch was built.
    """
    found = re.search(r"^cuda\b.*= *'(\d+)\.", torch_version, re.MULTILINE)
    if found is None:
        raise ValueError("torch/version.py names no CUDA version; trim.py knows only torch builds for CUDA.")
    return tuple(f"nixl_cu{major}{end}" for major in (12, 13, 14) if major != int(found[1]) for end in ("", ".libs"))


def sources(symbols: str) -> tuple[str, str]:
    """Return C code and a linker script that define the symbols that `nm -D --with-symbol-versions` listed."""
    code: list[str] = []
    versions: dict[str, list[str]] = defaultdict(list)
    for line in symbols.splitlines():
        kind, _, name = line.rpartition(" ")
        kind = kind[-1:]
        name, _, version = name.partition("@")
        if kind == "A":  # the name of a version
            continue
        code.append(f"char {name}[4096];" if kind in _DATA else f"void {name}(void) {{ __builtin_trap(); }}")
        versions[version.lstrip("@")].append(name)
    unversioned = versions.pop("", [])
    if versions and unversioned:
        raise ValueError(f"symbols with and without versions in one library: {unversioned[0]!r} has none.")
    script = "".join(f"{version} {{ global: {'; '.join(names)}; }};\n" for version, names in sorted(versions.items()))
    return "\n".join(code), script


def _remove(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _hollow(library: Path) -> None:
    """Replace a library by one that offers the same symbols and does nothing."""
    code, script = sources(_run("nm", "-D", "--defined-only", "--with-symbol-versions", str(library)))
    name = re.search(r"SONAME.*\[(.*)\]", _run("readelf", "-d", str(library)))
    with tempfile.TemporaryDirectory() as folder:
        source, versions, made = (Path(folder) / file for file in ("hollow.c", "hollow.map", "hollow.so"))
        source.write_text(code)
        versions.write_text(script)
        linker = [f"-Wl,-soname,{name[1] if name else library.name}"]
        linker += [f"-Wl,--version-script={versions}"] if script else []
        _run("c++", "-x", "c", "-shared", "-fPIC", "-fno-builtin", "-w", *linker, str(source), "-o", str(made))
        library.unlink()  # not written in place: an installer may have linked it to its own cache
        shutil.copy(made, library)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)  # noqa: S603 - fixed programs
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with status {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
