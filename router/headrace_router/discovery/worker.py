"""A worker as the router knows it, whoever told of it; an endpoint of others looks like one."""

from typing import Literal
from urllib.parse import urlsplit

import msgspec

Role = Literal["prefill", "decode", "unified"]


class Worker(msgspec.Struct, frozen=True, cache_hash=True):
    """One worker that is ready; a restarted one has another incarnation and so is another worker."""

    deployment: str
    role: Role
    url: str
    incarnation: str
    """Differs from start to start: what was learned of a process is worth nothing for the next one."""
    name: str
    """What the worker calls itself in `x-headrace-prefill` and `-decode`; its URL where nobody said."""
    host: str
    port: int
    path: bytes
    """Path before `/v1`, without a slash at its end."""
    authority: bytes
    """Host and port as the Host header states them."""
    pairing: str = ""
    """Prefill and decode workers serve a request together only where this is equal."""
    tls: bool = False
    external: bool = False
    """Whether it is somebody else's: it is told nothing of us, and believed nothing but its answer."""


def worker_at(
    url: str, *, deployment: str, role: Role, incarnation: str, name: str | None = None, pairing: str = ""
) -> Worker:
    """Return the worker at `url`; raise ValueError where that is no address this router can speak to."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError(f"worker URL {url!r} should look like http://HOST:PORT")
    url = url.rstrip("/")
    return Worker(
        deployment=deployment,
        role=role,
        url=url,
        incarnation=incarnation,
        name=name or url,
        host=parts.hostname,
        port=parts.port or 80,
        path=parts.path.rstrip("/").encode(),
        authority=parts.netloc.rpartition("@")[2].encode(),
        pairing=pairing,
    )


def endpoint_at(url: str, *, tier: str) -> Worker:
    """Return an endpoint of others as the one worker of its tier; raise ValueError where there can be none."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError(f"endpoint URL {url!r} should look like https://HOST/v1")
    return Worker(
        deployment=tier,
        role="unified",
        url=url,
        incarnation="",
        name=tier,
        host=parts.hostname,
        port=parts.port or (443 if tls else 80),
        path=parts.path.rstrip("/").encode(),
        authority=parts.netloc.encode(),
        tls=tls,
        external=True,
    )
