"""`hf://org/name[@revision][/file.gguf]`: a repository on a model hub, or a mirror of one (HF_ENDPOINT)."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headrace_worker.errors import FetchError
from headrace_worker.fetch.cache import Cache
from headrace_worker.fetch.download import Downloads, Item, Progress, new_client
from headrace_worker.fetch.index import shown

_ENDPOINT = "https://huggingface.co"
_URI = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+\.gguf))?")
_TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_REFUSED = (
    "A private or gated model needs a token that may read it (HF_TOKEN, or the secret that the resource names); "
    "a gated one also asks to accept its terms on its page. The hub gives the same answer for a misspelt name."
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at one commit."""

    name: str
    size: int | None
    sha256: str | None
    git_sha1: str | None


def resolve(rest: str, cache: Cache, progress: Progress, token: str | None) -> tuple[Path, str]:
    """Return the model's folder (or its one .gguf file), and its commit as the revision."""
    match = _URI.fullmatch(rest)
    if match is None:
        raise FetchError(f"model URI 'hf://{rest}' is malformed, expected hf://org/name[@revision][/file.gguf]")
    endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    key, anywhere = f"{endpoint} hf://{rest}", f"hf://{rest}"
    # Who may only read takes what was fetched for it, from whichever mirror that was: its own serves it nothing.
    found = cache.find(key) or (None if cache.writable else cache.find(anywhere))
    if found is not None:
        return found
    with cache.locked(f"{endpoint} {match['repo']}"):
        found = cache.find(key)
        if found is not None:
            return found
        secret = token or _token_of(os.environ)
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        with new_client(os.environ.get("REQUESTS_CA_BUNDLE")) as client:
            repository = _Repository(Downloads(client, refused=_REFUSED), endpoint, match["repo"], headers)
            commit, files = repository.files(match["revision"] or "main")
            chosen = choose(files, match["file"], match["repo"])
            folder = cache.folder("hf", *match["repo"].split("/"), commit)
            paths = _bring_all(repository, chosen, commit, folder, progress)
        single = paths[0].suffix == ".gguf"
        path = paths[0] if single else folder
        revision = f"hf:{match['repo']}@{commit}" + (f":{chosen[0].name}" if single else "")
        for name in (key, anywhere):
            cache.keep(name, path, revision, paths)
        return path, revision


def _bring_all(
    repository: "_Repository", files: Sequence[HubFile], commit: str, folder: Path, progress: Progress
) -> list[Path]:
    total = sum(file.size or 0 for file in files)
    paths: list[Path] = []
    done = 0
    for file in files:
        paths.append(repository.bring(file, commit, folder, partial(_shifted, progress, done, total)))
        done += paths[-1].stat().st_size
    progress(done, done)
    return paths


class _Repository:
    """One repository on one hub."""

    def __init__(self, downloads: Downloads, endpoint: str, name: str, headers: Mapping[str, str]) -> None:
        self._downloads = downloads
        self._endpoint = endpoint
        self._name = name
        self._headers = headers

    def files(self, revision: str) -> tuple[str, list[HubFile]]:
        """Return the commit that `revision` means now, and the files there."""
        url = f"{self._endpoint}/api/models/{self._name}/revision/{quote(revision, safe='')}?blobs=true"
        what = f"{self._name}@{revision} on {shown(self._endpoint)}"
        content = self._downloads.json(url, what, self._headers)
        try:
            return str(content["sha"]), [_hub_file(entry) for entry in content["siblings"]]
        except (KeyError, TypeError) as error:
            raise FetchError(f"{what}: the answer describes no repository ({error!r}); check HF_ENDPOINT") from error

    def bring(self, file: HubFile, commit: str, folder: Path, progress: Progress) -> Path:
        """Return where the file lies; one that is there with its size was checked when it came."""
        target = folder / file.name.replace("/", "--")
        if target.is_file() and target.stat().st_size == file.size:
            return target
        item = Item(
            f"{self._endpoint}/{self._name}/resolve/{commit}/{quote(file.name)}",
            f"{file.name} of {self._name}@{commit[:12]} on {shown(self._endpoint)}",
            sha256=file.sha256,
            git_sha1=file.git_sha1,
            size=file.size,
            headers=self._headers,
        )
        return self._downloads.file(item, target, progress)


def choose(files: Sequence[HubFile], wanted: str | None, repository: str) -> list[HubFile]:
    """Return the files to fetch: one .gguf, or configuration, tokenizer and safetensors of the top folder.

    Raises:
        FetchError: the repository has no model this worker can load, or several to choose from.
    """
    models = [file for file in files if file.name.endswith(".gguf")]
    names = ", ".join(file.name for file in models) or "none"
    if wanted is not None:
        fit = [file for file in models if file.name == wanted]
        if not fit:
            raise FetchError(f"{repository} has no file {wanted!r}; its .gguf files are: {names}")
        return _whole(fit[0])
    weights = [file for file in files if file.name.endswith(".safetensors") and "/" not in file.name]
    if weights:
        # some repositories hold the same weights once more in their maker's own format
        standard = [file for file in weights if file.name.startswith("model")] or weights
        return [file for file in files if file.name in _TEXT_FILES] + standard
    if len(models) == 1:
        return _whole(models[0])
    if models:
        raise FetchError(f"{repository} has several models ({names}); name one: hf://{repository}/file.gguf")
    raise FetchError(
        f"{repository} has {len(files)} files but neither safetensors nor .gguf; weights in pickle formats are not read"
    )


def _whole(file: HubFile) -> list[HubFile]:
    if _SPLIT.search(file.name):
        raise FetchError(
            f"{file.name} is one part of a split model; merge the parts and use file:///path/to/model.gguf"
        )
    return [file]


def _hub_file(entry: dict[str, Any]) -> HubFile:
    large = entry.get("lfs") or {}
    size = large.get("size", entry.get("size"))
    return HubFile(
        name=str(entry["rfilename"]),
        size=size if isinstance(size, int) else None,
        sha256=large.get("sha256"),
        git_sha1=None if large else entry.get("blobId"),
    )


def _shifted(progress: Progress, before: int, total: int, done: int, _total: int) -> None:
    progress(before + done, total)


def _token_of(environ: Mapping[str, str]) -> str | None:
    """Return the token of the environment, else the one that the hub's own command line has stored."""
    if environ.get("HF_TOKEN"):
        return environ["HF_TOKEN"]
    home = Path(environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    path = Path(environ.get("HF_TOKEN_PATH") or home / "token")
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
