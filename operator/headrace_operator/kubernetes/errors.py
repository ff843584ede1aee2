"""What can go wrong between the operator and an API server.

ClusterError
├── CredentialsError      no kubeconfig and no service account
├── UnavailableError      no whole answer in time, or a 5xx: try again
│   └── TooManyError      429: try again after the pause that the server asks for
├── UnauthorizedError     401: the credentials were read anew and are refused still
├── NotFoundError         404
├── ConflictError         409: another write came first, or the object is there already
├── GoneError             410: a version of the past that the server has forgotten
├── RefusedError          400, 403, 422 and other 4xx: the same call will be refused again
│   └── TerminatingError  403: the namespace is being deleted, nothing can be created in it
├── ForeignError          an object of that name is controlled by somebody else
└── NotLeadingError       leadership was lost before the call was made; nothing was sent
"""

from typing import Final

import msgspec

from headrace_operator.errors import OperatorError

_TERMINATING: Final = "NamespaceTerminating"
_UNTYPED: Final = "failed to create typed patch object"
"""How a server-side apply with a field that the kind does not have is refused: with 500, as if the server were at
fault. A pod template of the user's may hold one."""


class ClusterError(OperatorError):
    """Base of all of them."""


class CredentialsError(ClusterError):
    """There is no way to the cluster: neither a kubeconfig nor a service account."""


class UnavailableError(ClusterError):
    """The API server gave no whole answer in time, or one that says that it is at fault."""


class TooManyError(UnavailableError):
    """The API server asks for a pause; `retry_after_s` is None where it does not say how long."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnauthorizedError(ClusterError):
    """The API server does not know who calls."""


class NotFoundError(ClusterError):
    """There is no such object, kind or namespace."""


class ConflictError(ClusterError):
    """Another write came first, or the object to create is there already (`exists`)."""

    def __init__(self, message: str, *, exists: bool = False) -> None:
        super().__init__(message)
        self.exists = exists


class GoneError(ClusterError):
    """The server has forgotten the version that a list or watch was to resume from."""


class RefusedError(ClusterError):
    """The API server refuses the call and will again, in its own words; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TerminatingError(RefusedError):
    """The namespace is being deleted, so nothing can be created in it."""


class ForeignError(ClusterError):
    """An object that the operator wants to make is there and controlled by somebody else."""


class NotLeadingError(ClusterError):
    """Leadership was lost (or is too close to its end for a write to arrive in time); nothing was sent."""


_PLAIN: Final[dict[int, type[ClusterError]]] = {
    401: UnauthorizedError,
    404: NotFoundError,
    410: GoneError,
}


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    causes: tuple[_Cause, ...] | None = None
    retry_after_seconds: int | None = None


class _Status(msgspec.Struct, frozen=True):
    """The API server's account of a failure, as far as it matters here."""

    message: str = ""
    reason: str = ""
    details: _Details | None = None


_decoder = msgspec.json.Decoder(_Status)


def from_answer(call: str, status: int, body: bytes, retry_after: str | None = None) -> ClusterError:
    """Return the error that an answer of status 400 or more stands for.

    Args:
        call: what was asked, for the message: `PATCH /apis/…`.
        status: of HTTP.
        body: the server's Status object, or whatever came in its place.
        retry_after: the header of that name.
    """
    account = _account(body)
    details = account.details or _Details()
    text = f"{call}: HTTP {status}: {account.message or body[:200].decode(errors='replace')}"
    if status == 429:
        return TooManyError(text, _seconds(retry_after) or details.retry_after_seconds)
    if status >= 500 and not account.message.startswith(_UNTYPED):
        return UnavailableError(text)
    if status == 409:
        return ConflictError(text, exists=account.reason == "AlreadyExists")
    if status in _PLAIN:
        return _PLAIN[status](text)
    if any(cause.reason == _TERMINATING for cause in details.causes or ()):
        return TerminatingError(account.message, status)
    return RefusedError(account.message or text, status)


def _account(body: bytes) -> _Status:
    """Return the server's account; an empty one where a proxy answered with something else."""
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        return _Status()


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None
