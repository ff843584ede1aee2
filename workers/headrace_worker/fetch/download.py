"""One file over HTTP: resumed where it was cut off, checked, renamed into place."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import certifi
import httpx

from headrace_worker.errors import FetchError, FetchLaterError

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 where nobody said)."""

_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between tries in a row that brought nothing; bytes that arrive start them over."""
_MAX_DELAY_S = 30.0
_TIMEOUT = httpx.Timeout(30.0, read=60.0)
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Item:
    """A file to download, and what is known of it beforehand."""

    url: str
    what: str
    """How errors name it: no credentials, no signed query."""
    sha256: str | None = None
    git_sha1: str | None = None
    """Object id of the file in git, for small files that no sha256 is stated for."""
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _RetryError(Exception):
    """This try failed in a way that another may not; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _CorruptError(Exception):
    """The whole file arrived and is not the one that was announced."""


def new_client(certificates: str | None) -> httpx.Client:
    """Return a client for `Downloads`.

    Args:
        certificates: file with the authorities to trust; None trusts the system's and the public ones.
    """
    try:
        context = ssl.create_default_context(cafile=certificates)
        if certificates is None:
            context.load_verify_locations(certifi.where())
    except OSError as error:
        raise FetchError(f"the certificates in {certificates} cannot be loaded ({error}); correct PIP_CERT") from error
    return httpx.Client(follow_redirects=True, timeout=_TIMEOUT, verify=context)


class Downloads:
    """Requests with retries over one HTTP client.

    Args:
        client: follows redirects; drops credentials when one leads to another origin (httpx does).
        refused: sentence added to 401 and 403: where a token comes from.
        pause: waits between tries.
    """

    def __init__(self, client: httpx.Client, *, refused: str = "", pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._refused = refused
        self._pause = pause

    def get(self, url: str, what: str, headers: Mapping[str, str]) -> httpx.Response:
        """Return a small answer with status 200; raise FetchError otherwise."""
        response = self.find(url, what, headers)
        if response is None:
            raise FetchError(f"{what}: not found (HTTP 404); check the spelling, the version and the address")
        return response

    def find(self, url: str, what: str, headers: Mapping[str, str]) -> httpx.Response | None:
        """Return a small answer with status 200, None where there is nothing at `url` (404)."""

        def once() -> httpx.Response | None:
            response = self._client.get(url, headers=dict(headers))
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            self._check(response, what)
            return response

        return self._retried(once, what, lambda: 0)

    def json(self, url: str, what: str, headers: Mapping[str, str]) -> Any:
        """Return an answer's JSON."""
        response = self.get(url, what, headers)
        try:
            return response.json()
        except ValueError as error:
            raise FetchError(f"{what}: the answer is no JSON ({error}); check that the address is right") from error

    def file(self, item: Item, target: Path, progress: Progress) -> Path:
        """Bring `item` to `target`; what an earlier call left unfinished beside it is taken up.

        Raises:
            FetchError: not there, refused, unreachable, corrupt, or no room.
        """
        part = target.with_name(target.name + ".part")
        try:
            try:
                self._retried(lambda: self._fill(item, part, progress), item.what, lambda: _size(part))
            except _CorruptError as error:
                _log.warning("%s: %s; fetching it again from the start", item.what, error)
                _forget(part)
                self._retried(lambda: self._fill(item, part, progress), item.what, lambda: _size(part))
            part.replace(target)
            _note(part).unlink(missing_ok=True)
        except _CorruptError as error:
            _forget(part)
            raise FetchLaterError(
                f"{item.what}: {error}; it was deleted. Try again later or from another mirror"
            ) from error
        except OSError as error:
            raise _disk_error(error, target) from error
        return target

    def _retried(self, once: Callable[[], _Answer], what: str, size: Callable[[], int]) -> _Answer:
        failures, before = 0, size()
        while True:
            try:
                return once()
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise FetchError(f"{what}: {error}; check that the address is right") from error
            except (httpx.TransportError, _RetryError) as error:
                now = size()
                failures, before = (0 if now > before else failures + 1), now
                if failures > len(_DELAYS_S):
                    raise FetchLaterError(
                        f"{what}: {_reason(error)}, after {failures} tries; check the network and the proxy "
                        "settings (HTTPS_PROXY), then try again: it goes on where it stopped"
                    ) from error
                asked_s = error.wait_s if isinstance(error, _RetryError) else None
                wait_s = _DELAYS_S[max(failures - 1, 0)] if asked_s is None else asked_s
                _log.warning("%s: %s; trying again in %.1f s", what, _reason(error), wait_s)
                self._pause(min(wait_s, _MAX_DELAY_S))
            except httpx.HTTPError as error:
                raise FetchError(f"{what}: {error}; check that the address is right") from error

    def _fill(self, item: Item, part: Path, progress: Progress) -> None:
        """Append what is missing to `part` in one request, then check the whole."""
        etag = _read_note(part, item)
        have = _size(part) if etag or item.sha256 or item.git_sha1 else 0
        if item.size is not None and have == item.size:
            _verify(item, part, item.sha256, item.size)
            return
        headers = {**item.headers, "accept-encoding": "identity"}
        if have:
            headers["range"] = f"bytes={have}-"
            if etag:
                headers["if-range"] = etag
        with self._client.stream("GET", item.url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                _forget(part)
                raise _RetryError(f"the server has no bytes from {have} on", wait_s=0)
            if not response.is_success:
                response.read()
            self._check(response, item.what)
            start = _start(response, have)
            total = item.size or start + int(response.headers.get("content-length", -start))
            _check_room(part, total - start, item.what)
            _write_note(part, item, response)
            self._append(response, part, start, total, progress)
        _verify(item, part, item.sha256 or _linked_sha256(response), total)

    @staticmethod
    def _append(response: httpx.Response, part: Path, start: int, total: int, progress: Progress) -> None:
        with part.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            done = start
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                progress(done, max(total, 0))
            file.flush()
            os.fsync(file.fileno())

    def _check(self, response: httpx.Response, what: str) -> None:
        status = response.status_code
        if response.is_success:
            return
        if status in (401, 403):
            raise FetchLaterError(f"{what}: access was refused (HTTP {status}). {self._refused}".strip())
        if status in (404, 410):
            raise FetchError(f"{what}: not found (HTTP {status}); check the spelling, the version and the address")
        if status in _RETRIED:
            after = response.headers.get("retry-after", "")
            raise _RetryError(f"the server answered HTTP {status}", float(after) if after.isdecimal() else None)
        raise FetchError(f"{what}: the server answered HTTP {status}; check the address and the proxy settings")


def _start(response: httpx.Response, have: int) -> int:
    """Return the byte at which the answer's body starts."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return 0
    stated = response.headers.get("content-range", "")
    if not stated.startswith(f"bytes {have}-"):
        raise _RetryError(f"asked for bytes from {have} on, got {stated!r}")
    return have


def _verify(item: Item, part: Path, sha256: str | None, total: int) -> None:
    size = _size(part)
    if 0 < total != size:
        if size > total:
            raise _CorruptError(f"it has {size} bytes, expected {total}")
        raise _RetryError(f"it ended after {size} of {total} bytes")
    if sha256 is not None:
        found = digest(part)
        if found != sha256:
            raise _CorruptError(f"its sha256 is {found}, expected {sha256}")
    elif item.git_sha1 is not None:
        found = hashlib.sha1(b"blob %d\0" % size + part.read_bytes(), usedforsecurity=False).hexdigest()
        if found != item.git_sha1:
            raise _CorruptError(f"its git object id is {found}, expected {item.git_sha1}")


def digest(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _linked_sha256(response: httpx.Response) -> str | None:
    """Return the sha256 that a hub states as the entity tag of the file it redirects to."""
    for answer in (*response.history, response):
        tag = answer.headers.get("x-linked-etag", "").strip('"')
        if _SHA256.fullmatch(tag):
            return str(tag)
    return None


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path, item: Item) -> str | None:
    """Return the strong entity tag of the bytes in `part`, where they are of this very item."""
    try:
        note = json.loads(_note(part).read_bytes())
        return str(note["etag"]) if note["what"] == item.what and note["etag"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(part: Path, item: Item, response: httpx.Response) -> None:
    etag = response.headers.get("etag", "")
    _note(part).write_text(json.dumps({"what": item.what, "etag": etag if etag.startswith('"') else None}))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_room(part: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FetchLaterError(
            f"{what} needs {needed / 2**20:.0f} MiB more but {part.parent} has {free / 2**20:.0f} MiB free; "
            "make room or set XDG_CACHE_HOME to a larger disk"
        )


def _disk_error(error: OSError, target: Path) -> FetchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchLaterError(
            f"the disk of {target.parent} is full; make room or set XDG_CACHE_HOME to a larger disk, "
            "then try again: the download goes on where it stopped"
        )
    return FetchError(f"{target} cannot be written ({error.strerror}); set XDG_CACHE_HOME to a folder that can")


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"cannot connect ({text})" if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else text
