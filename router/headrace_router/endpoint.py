"""Endpoints of others as tiers: what they are sent, as whom, and what their refusals mean to a client.

An endpoint is told nothing of the client and of this router but the request itself: no header of the client's goes
there, and none of ours but its own API key.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import msgspec

from headrace_api.resources.endpoint import Endpoint as EndpointSpec
from headrace_api.resources.router import RouterSpec
from headrace_router.discovery.worker import Worker, endpoint_at
from headrace_router.errors import ClientError, SettingsError
from headrace_router.stamp import Stamp, stamp_or_gone

logger = logging.getLogger(__name__)

AWAY_S = 1
"""What a client is told to wait for an endpoint that failed a moment ago."""
_MESSAGE = (
    b"POST %b%b HTTP/1.1\r\nhost: %b\r\nuser-agent: headrace\r\naccept: */*\r\naccept-encoding: identity\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
)
_BASE = b"/v1"
"""What an endpoint's URL has in place of the beginning of our paths."""
_KEY = re.compile(rb"[!-~]{1,4096}")
_SECONDS = re.compile(rb"[0-9]{1,6}")
_CLIENTS_FAULTS = (400, 413, 415, 422)
"""Refusals that are about the request: what the endpoint says of them is for the client."""
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class KeyFile:
    """A file with an API key; what cannot be read leaves the key that was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self.key: bytes | None = None
        self.poll()

    def poll(self) -> None:
        """Read the file if it has changed."""
        stamp = stamp_or_gone(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        problem = self._read()
        if problem is not None:
            kept = "there is none" if self.key is None else "the one before goes on"
            logger.warning("the key file %s %s; %s", self._path, problem, kept)

    def _read(self) -> str | None:
        """Take the key; return why there is none."""
        try:
            key = self._path.read_bytes().strip()
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        if _KEY.fullmatch(key) is None:
            return "holds no key: expected one line of printable characters without spaces"
        self.key = key
        return None


class Endpoint:
    """One endpoint.

    Args:
        tier: name of its tier.
        spec: of the tier.

    Raises:
        SettingsError: it can be no endpoint of this process.
    """

    def __init__(self, tier: str, spec: EndpointSpec) -> None:
        if spec.key_secret is not None:
            raise SettingsError(f"--spec: tier {tier} has its key in a Secret; mount it and name the file as keyFile")
        try:
            self.worker = endpoint_at(spec.url, tier=tier)
        except ValueError as error:
            raise SettingsError(f"--spec: tier {tier}: {error}") from error
        self.tier = tier
        self._model = spec.model
        self._file = None if spec.key_file is None else KeyFile(Path(spec.key_file))

    @property
    def keyed(self) -> bool:
        """Whether it can be asked: its key is there, or it needs none."""
        return self._file is None or self._file.key is not None

    def poll(self) -> None:
        """Look whether its key has changed."""
        if self._file is not None:
            self._file.poll()

    def body(self, body: bytes, *, usage: bool) -> tuple[bytes, bool]:
        """Return a request as it goes there, and whether it asks for more than the client did.

        Its fields are written anew: two of one name, of which our own workers take the last, others may refuse.

        Args:
            body: the client's, a JSON object.
            usage: whether a stream must state its usage.
        """
        fields = _fields(body)
        fields["model"] = _raw(self._model)
        quiet = False
        if usage:
            given = fields.get("stream_options")
            options = None if given is None else _decode(bytes(given))
            quiet = options is None or (isinstance(options, dict) and options.get("include_usage") is not True)
            if quiet:
                fields["stream_options"] = _raw({**(options or {}), "include_usage": True})
        return _encode(fields), quiet

    def message(self, path: bytes, body: bytes) -> bytes:
        """Return a whole request to it.

        Args:
            path: as clients know it, such as `/v1/chat/completions`.
            body: as `body` made it.
        """
        key = None if self._file is None else self._file.key
        line = b"" if key is None else b"authorization: Bearer %b\r\n" % key
        worker = self.worker
        return _MESSAGE % (worker.path, path.removeprefix(_BASE), worker.authority, len(body), line, body)

    # --- what clients are told ------------------------------------------------------------------------------

    def keyless(self) -> ClientError:
        """Return what a client is told while there is no key."""
        text = f"The API key of tier {self.tier!r} cannot be read; the router's log says why."
        return ClientError(text, status=503, code="endpoint_key_missing", retry_after_s=AWAY_S)

    def away(self) -> ClientError:
        """Return what a client is told while the endpoint is left alone because it failed."""
        text = f"The endpoint of tier {self.tier!r} cannot be reached, or failed a moment ago; try again later."
        return ClientError(text, status=503, code="endpoint_away", retry_after_s=AWAY_S)

    def refusal(self, status: int, retry_after: bytes | None) -> ClientError | None:
        """Return what a client is told in place of an answer; None where the answer itself is for it.

        The words of the endpoint may name our account or parts of our key, so that only those about the request go on.
        """
        if 200 <= status < 300 or status in _CLIENTS_FAULTS:
            return None
        named = f"The endpoint of tier {self.tier!r}"
        told = retry_after is not None and _SECONDS.fullmatch(retry_after)
        after_s = int(told[0]) if told else None
        if status in (401, 403):
            text = f"{named} refuses this router's key there (status {status}); the client's own key is not at fault."
            return ClientError(text, status=502, code="endpoint_key_refused")
        if status == 429:
            text = f"{named} takes no more requests at the moment; try again later."
            return ClientError(text, status=429, code="endpoint_overloaded", retry_after_s=after_s or AWAY_S)
        if status >= 500:
            text = f"{named} failed with status {status}; try again later."
            answered = 503 if status == 503 else 502
            return ClientError(text, status=answered, code="endpoint_failed", retry_after_s=after_s)
        text = f"{named} answered with status {status}; the tier's url, model or account there may be wrong."
        return ClientError(text, status=502, code="endpoint_misplaced")


class Endpoints:
    """All endpoints of one router, by the name of their tier."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints

    @classmethod
    def of(cls, spec: RouterSpec | None) -> Self:
        """Return the endpoints among the tiers; raise SettingsError."""
        tiers = () if spec is None else spec.tiers
        return cls({tier.name: Endpoint(tier.name, tier.endpoint) for tier in tiers if tier.endpoint is not None})

    def __bool__(self) -> bool:
        return bool(self._endpoints)

    def get(self, model: str) -> Endpoint | None:
        """Return the endpoint that serves a model, if it is one."""
        return self._endpoints.get(model)

    def joined(self, workers: Iterable[Worker], models: Iterable[str]) -> tuple[tuple[Worker, ...], frozenset[str]]:
        """Return workers and models that were found, and the endpoints beside them; a worker of such a name is none."""
        found = tuple(worker for worker in workers if worker.deployment not in self._endpoints)
        own = tuple(endpoint.worker for endpoint in self._endpoints.values())
        return (*found, *own), frozenset((*models, *self._endpoints))

    def poll(self) -> None:
        """Look whether any key has changed."""
        for endpoint in self._endpoints.values():
            endpoint.poll()


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
