"""`file:///path`: a model that lies on this machine already."""

import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from headrace_worker.errors import FetchError
from headrace_worker.fetch.cache import Cache
from headrace_worker.fetch.download import Progress

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 4 << 20
_PARTS = ("*.safetensors", "*.json", "*.jinja")


def resolve(rest: str, cache: Cache, progress: Progress, _token: str | None) -> tuple[Path, str]:
    """Return the path and a digest over its files; nothing is copied."""
    if not rest.startswith("/"):
        raise FetchError(f"model URI 'file://{rest}' names no absolute path, expected file:///path/to/model")
    path = _model(Path(unquote(rest)))
    files = [path] if path.is_file() else sorted(file for part in _PARTS for file in path.glob(part))
    try:
        return path, f"sha256:{_digest_of_all(files, cache, progress)}"
    except OSError as error:
        raise FetchError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def _model(path: Path) -> Path:
    """Return the .gguf file or the model folder that `path` means."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise FetchError(f"{path} is a {path.suffix or 'plain'} file, expected .gguf or a folder with safetensors")
        return path
    if not path.is_dir():
        raise FetchError(f"{path} does not exist, expected a .gguf file or a folder with config.json and safetensors")
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return path
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found) or "none"
    raise FetchError(
        f"{path} has no config.json with safetensors, and of .gguf files {names}; name the one file to use"
    )


def _digest_of_all(files: list[Path], cache: Cache, progress: Progress) -> str:
    total = sum(file.stat().st_size for file in files)
    done = 0
    whole = hashlib.sha256()
    for file in files:
        name = "" if len(files) == 1 else file.name
        whole.update(f"{name} {_digest(file, cache, partial(_shifted, progress, done, total))}\n".encode())
        done += file.stat().st_size
    return whole.hexdigest()


def _shifted(progress: Progress, before: int, total: int, done: int, _total: int) -> None:
    progress(before + done, total)


def _digest(file: Path, cache: Cache, progress: Progress) -> str:
    """Return the file's sha256; read only once for each size and time of change."""
    state = file.stat()
    key = f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"
    record = cache.root / "digests" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        return str(json.loads(record.read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        found = _read_digest(file, state.st_size, progress)
        _note(record, {"file": key, "sha256": found})
        return found


def _note(record: Path, content: dict[str, str]) -> None:
    """Spare the next start the reading; a cache that cannot be written only costs it."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(content))
    except OSError as error:
        logger.debug("the digest of %s is not remembered: %s", content["file"], error)


def _read_digest(file: Path, size: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    with file.open("rb") as data:
        while chunk := data.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(done, size)
    return digest.hexdigest()
