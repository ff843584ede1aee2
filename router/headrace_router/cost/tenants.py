"""API keys: who sends a request, and on whose account it goes.

The file holds SHA-256 digests, never keys. Keys are random and long, so that nothing slower than SHA-256 is needed to
keep them from being guessed, and finding one is one look in a dictionary.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_api.resources.money import Tenant as TenantName
from headrace_router.errors import ClientError, SettingsError
from headrace_router.stamp import Stamp, stamp_of

logger = logging.getLogger(__name__)

_BEARER = b"bearer "


@dataclasses.dataclass(frozen=True, slots=True)
class Tenant:
    """Who pays for a request."""

    key: str
    """The key's name, not the key."""
    team: str
    organisation: str
    admin: bool = False
    """Whether it may read everybody's costs."""


AUDIT = Tenant("audit", "none", "none")
"""On whose account the router asks for its own sake."""
ANYBODY = Tenant("anybody", "none", "none", admin=True)
"""Who sends requests where no keys are asked for."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: TenantName
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    team: TenantName = "none"
    organisation: TenantName = "none"
    admin: bool = False


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    keys: list[_Entry]


def parse_keys(data: bytes, source: str) -> Mapping[str, Tenant]:
    """Return tenants by the SHA-256 of their keys, in hexadecimal; raise SettingsError, naming `source`."""
    try:
        entries = _Document.model_validate(yaml.safe_load(data)).keys
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the key file {source} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SettingsError(f"the key file {source}: {place}: {first['msg']}") from error
    for field in ("name", "sha256"):
        values = [getattr(entry, field) for entry in entries]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise SettingsError(f"the key file {source} has two keys of {field} {twice!r}; each needs its own")
    return {one.sha256: Tenant(one.name, one.team, one.organisation, one.admin) for one in entries}


class Keys:
    """The key file, read again whenever it changes; a broken new one leaves the old keys in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._tenants: Mapping[str, Tenant] = {}

    def load(self) -> None:
        """Read the file for the first time; raise SettingsError where it cannot be used."""
        try:
            self._stamp = stamp_of(self._path)
            self._tenants = parse_keys(self._path.read_bytes(), str(self._path))
        except OSError as error:
            raise SettingsError(f"the key file {self._path} cannot be read: {error.strerror or error}") from error

    def poll(self) -> None:
        """Read the file again if it has changed."""
        try:
            if stamp_of(self._path) != self._stamp:
                self.load()
                logger.info("the key file holds %d keys", len(self._tenants))
        except (OSError, SettingsError) as error:
            logger.warning("keeping the keys read before: %s", error)

    def find(self, authorization: bytes) -> Tenant:
        """Return whose key a request carries; raise ClientError where it carries none that is known."""
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise _refusal("This router asks for an API key: send the header 'Authorization: Bearer KEY'.")
        digest = hashlib.sha256(authorization[len(_BEARER) :].strip()).hexdigest()
        tenant = self._tenants.get(digest)
        if tenant is None:
            raise _refusal("The API key in the Authorization header is not known to this router.")
        return tenant


Find = Callable[[bytes], Tenant]
"""Returns who sent a request with this Authorization header."""


def _refusal(text: str) -> ClientError:
    return ClientError(text, status=401, code="invalid_api_key")
