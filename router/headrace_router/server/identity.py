"""Who a request is: its id and its default seed (pure).

With an `Idempotency-Key` both follow from the API key, that key, the path and the body, so that a client whose router
died may send the request again, to any router: it runs again and, in float32 or with a deterministic engine, gives
the same text under the same id. Nothing is stored for it. A different body under the same key is another request.
"""

import hashlib
import re

import msgspec

from headrace_api.names import HEADER_IDEMPOTENCY_KEY
from headrace_router.errors import ClientError

_KEY = re.compile(rb"[\x21-\x7e][\x20-\x7e]{0,254}")


class Identity(msgspec.Struct, frozen=True):
    """A request's names and its seed."""

    request_id: bytes
    """What clients and workers call it; a client may choose it freely."""
    entry_id: bytes
    """What it is counted under: never of a client's choice, and the same for a repeat."""
    seed: int
    """From 0 to 2**63 - 1, for requests that state none."""


def random_identity(given: bytes | None, drawn: int) -> Identity:
    """Return the identity of a request without an idempotency key.

    Args:
        given: the client's own request id, if it sent a valid one.
        drawn: 191 random bits.
    """
    entry_id = b"%032x" % (drawn >> 63)
    return Identity(given or entry_id, entry_id, drawn & (2**63 - 1))


def repeatable_identity(tenant: bytes, key: bytes, path: bytes, body: bytes) -> Identity:
    """Return the identity that every repeat of a request has.

    Args:
        tenant: the API key, or what stands for it: clients cannot meet each other's requests.
        key: the `Idempotency-Key`.
        path: where the request goes.
        body: as the client sent it.

    Raises:
        ClientError: the key is empty, too long, or not printable ASCII.
    """
    if not _KEY.fullmatch(key):
        text = f"{HEADER_IDEMPOTENCY_KEY} must be 1 to 255 printable ASCII characters; this one has {len(key)} bytes."
        raise ClientError(text, param=HEADER_IDEMPOTENCY_KEY, code="invalid_idempotency_key")
    digest = hashlib.blake2b(digest_size=24)
    for part in (tenant, key, path, body):
        digest.update(len(part).to_bytes(8, "big") + part)
    found = digest.digest()
    name = found[:16].hex().encode()
    return Identity(name, name, int.from_bytes(found[16:], "big") >> 1)
