"""The simple API of a package index (PEP 503 pages and PEP 691 JSON), and the choice of one wheel in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from headrace_worker.errors import FetchError

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a distribution, as its index lists it."""

    name: str
    url: str
    sha256: str | None
    size: int | None = None
    yanked: bool = False


def parse_files(body: bytes, media_type: str, base_url: str) -> list[File]:
    """Return the files in an answer of the simple API; raise ValueError where it is none."""
    if media_type.partition(";")[0].strip().endswith("json"):
        return [_from_json(entry, base_url) for entry in json.loads(body)["files"]]
    page = _Page(base_url)
    page.feed(body.decode("utf-8"))
    return page.files


def choose_wheel(files: Sequence[File], distribution: str, version: str | None) -> tuple[File, Version]:
    """Return the wheel to take: of the version asked for, else of the newest that is final and not yanked."""
    wheels = [(file, found) for file in files if (found := _pure_wheel(file.name)) is not None]
    if version is None:
        fit = [pair for pair in wheels if not pair[0].yanked and not pair[1].is_prerelease] or wheels
    else:
        fit = [pair for pair in wheels if pair[1] == _version(version, distribution)]
    if fit:
        return max(fit, key=lambda pair: pair[1])
    known = ", ".join(sorted({str(found) for _, found in wheels})) or "none"
    wanted = f"{distribution}=={version}" if version else distribution
    raise FetchError(
        f"the package index has {len(files)} files of {distribution} but no wheel for any platform of {wanted}; "
        f"versions with one: {known}"
    )


def _version(text: str, distribution: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise FetchError(f"{text!r} is no version, expected one like pypi://{distribution}==1.2") from error


def _pure_wheel(name: str) -> Version | None:
    """Return the version of a wheel for any platform; None for other files."""
    if not name.endswith(".whl"):
        return None
    try:
        _, version, _, tags = parse_wheel_filename(name)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return version if any(tag.platform == "any" for tag in tags) else None


def _from_json(entry: dict[str, object], base_url: str) -> File:
    hashes = entry.get("hashes")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    size = entry.get("size")
    return File(
        name=str(entry["filename"]),
        url=urljoin(base_url, str(entry["url"])),
        sha256=sha256,
        size=size if isinstance(size, int) else None,
        yanked=bool(entry.get("yanked")),
    )


class _Page(HTMLParser):
    """Collects the links of a project's page."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base_url = base_url
        self.files: list[File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = dict(attrs)
        if tag != "a" or not link.get("href"):
            return
        url, fragment = urldefrag(urljoin(self._base_url, link["href"] or ""))
        hashes = parse_qs(fragment).get("sha256")
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        self.files.append(File(name, url, hashes[0] if hashes else None, yanked="data-yanked" in link))
