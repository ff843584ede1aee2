"""Which package index this machine is told to use, and with which credentials.

Read the way pip and uv read it, so that a machine whose pip works needs no further settings. Only the public default
that pip itself has is named here.
"""

import configparser
import netrc
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from headrace_worker.errors import FetchError

DEFAULT_INDEX = "https://pypi.org/simple"
_DEFAULT_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_EXTRA_VARIABLES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Indexes to ask in order, and the file with the authorities to trust (None: the system's)."""

    urls: tuple[str, ...]
    certificates: str | None = None


def index_settings(environ: Mapping[str, str]) -> IndexSettings:
    """Return what the environment, pip's and uv's files say, in this order; the default index where none does."""
    pip = _pip_options(environ)
    variables = [environ[name] for name in _DEFAULT_VARIABLES if environ.get(name)]
    default = next(iter(variables), None) or pip.get("index-url") or _uv_default(environ) or DEFAULT_INDEX
    extra = [url for name in _EXTRA_VARIABLES for url in environ.get(name, "").split()]
    extra += pip.get("extra-index-url", "").split()
    urls = dict.fromkeys(_bare(url) for url in [default, *extra])
    certificates = [environ[name] for name in _CERTIFICATE_VARIABLES if environ.get(name)]
    return IndexSettings(tuple(urls), next(iter(certificates), None) or pip.get("cert"))


def with_credentials(url: str, environ: Mapping[str, str], *, like: str | None = None) -> str:
    """Return `url` with user and password: its own, those of `like` on the same host, or netrc's."""
    parts = urlsplit(url)
    if parts.username is not None or parts.hostname is None:
        return url
    other = urlsplit(like) if like else None
    if other is not None and other.username is not None and other.netloc.rpartition("@")[2] == parts.netloc:
        userinfo = other.netloc.rpartition("@")[0]
    else:
        found = _netrc(environ, parts.hostname)
        if found is None:
            return url
        userinfo = ":".join(quote(part, safe="") for part in found)
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))


def shown(url: str) -> str:
    """Return `url` as it may stand in a message: no user, no password, no query (it may be signed)."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _bare(url: str) -> str:
    """Return the URL without uv's `name=` before it and without slashes at its end."""
    name, mark, rest = url.partition("=")
    return (rest if mark and name.replace("-", "").replace("_", "").isalnum() else url).rstrip("/")


def _netrc(environ: Mapping[str, str], host: str) -> tuple[str, str] | None:
    path = Path(environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError) as error:
        raise FetchError(f"{path} cannot be read for credentials ({error}); correct it or set NETRC") from error
    return None if found is None else (found[0], found[2] or "")


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield pip's configuration files, the strongest last."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    home = Path.home()
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
        yield home / "Library" / "Application Support" / "pip" / "pip.conf"
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if chosen:
        yield Path(chosen)


def _pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError) as error:
            raise FetchError(f"{path} is no pip configuration ({error}); correct it") from error
        for section in ("global", "download"):
            if parser.has_section(section):
                options |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return options


def _uv_default(environ: Mapping[str, str]) -> str | None:
    paths = [
        Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv" / "uv.toml",
        Path("/etc/uv/uv.toml"),
    ]
    chosen = environ.get("UV_CONFIG_FILE")
    for path in [Path(chosen)] if chosen else paths:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise FetchError(f"{path} is no uv configuration ({error}); correct it") from error
        named = [entry.get("url") for entry in content.get("index", []) if entry.get("default")]
        url = next(iter(named), None) or content.get("index-url")
        if url:
            return str(url)
    return None
