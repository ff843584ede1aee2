"""Errors of the router.

RouterError
├── SettingsError    the command line is wrong, or the address cannot be had
├── DiscoveryError   what lists workers is not what it should be, or cannot be asked
└── ClientError      a request is answered with an OpenAI-shaped error
"""


class RouterError(Exception):
    """Base of everything the router raises on purpose; its text is a sentence for the reader."""


class SettingsError(RouterError):
    """The command line is wrong, or the address to listen on cannot be had."""


class DiscoveryError(RouterError):
    """What lists workers does not hold what it should, or cannot be asked."""


class ClientError(RouterError):
    """A request is answered with an OpenAI-shaped error.

    Args:
        message: a sentence for the client.
        status: HTTP status.
        param: the field at fault, when there is one.
        code: OpenAI's machine-readable code, when there is one.
        retry_after_s: sent as `Retry-After` when given.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
