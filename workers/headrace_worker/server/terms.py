"""What a request's headers say about its answer."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from headrace_api import names
from headrace_worker.errors import RequestError

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_MODES = ("auto", "always", "never")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the headers say about the answer."""

    request_id: str
    created: int
    frames: bool
    resume: bool
    prefill_urls: tuple[str, ...]
    disaggregate: str


def read_terms(headers: Mapping[str, str], default_disaggregate: str, now: float) -> Terms:
    """Return the terms; raise RequestError on a header whose value is none of those known."""
    request_id = headers.get(names.HEADER_REQUEST_ID, "")
    created = headers.get(names.HEADER_CREATED, str(int(now)))
    if not (created.isascii() and created.isdecimal() and len(created) <= 12):
        raise RequestError(f"The header {names.HEADER_CREATED} must be Unix seconds.", param=names.HEADER_CREATED)
    disaggregate = headers.get(names.HEADER_DISAGGREGATE, default_disaggregate)
    if disaggregate not in _MODES:
        raise RequestError(
            f"The header {names.HEADER_DISAGGREGATE} must be one of {', '.join(_MODES)}.",
            param=names.HEADER_DISAGGREGATE,
        )
    urls = headers.get(names.HEADER_PREFILL_WORKERS, "").split(",")
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Terms(
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(12),
        created=int(created),
        frames=headers.get(names.HEADER_FRAMES) == "1" or media == names.MEDIA_RESUME,
        resume=media == names.MEDIA_RESUME,
        prefill_urls=tuple(url.strip() for url in urls if url.strip()),
        disaggregate=disaggregate,
    )
