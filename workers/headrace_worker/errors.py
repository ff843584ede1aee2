"""Errors of the worker.

WorkerError
├── SettingsError        the command line or the settings file is wrong
├── FetchError           a model file could not be had
│   └── FetchLaterError       another try may bring it
├── ModelError           the files are no model this worker can run
│   └── MemoryNeededError     the model does not fit
├── RankError            the ranks of the worker cannot go on together
├── OffloadError         a block could not be written to disk or read back
│   └── StuckError            nobody knows whether it still moves
├── TransferError        the KV transport failed
│   └── IncompatiblePeerError the compatibility hashes differ
└── RequestError         a request cannot be served as asked (becomes an OpenAI-shaped error)
"""


class WorkerError(Exception):
    """Base of everything the worker raises on purpose; its text is a sentence for the user."""

    permanent = False
    """Whether another start with the same settings must fail in the same way, so that nobody should try."""


class SettingsError(WorkerError):
    """The command line or the settings file is wrong."""

    permanent = True


class FetchError(WorkerError):
    """A model file could not be had: it does not exist, or its address is wrong."""

    permanent = True


class FetchLaterError(FetchError):
    """Another try may bring the file: the network, a busy server, a full disk, terms that are to be accepted first."""

    permanent = False


class ModelError(WorkerError):
    """The files are no model this worker can run: truncated, unknown architecture, missing tensor."""

    permanent = True


class MemoryNeededError(ModelError):
    """The model does not fit; says needed and free bytes.

    Args:
        what: needs the memory.
        needed: by it, in bytes.
        free: bytes that are free now.
        total: bytes that could ever be free.
    """

    def __init__(self, what: str, needed: int, free: int, total: int) -> None:
        super().__init__(
            f"{what} needs {needed / 2**30:.2f} GiB but only {free / 2**30:.2f} GiB are free; "
            "use a smaller model, a smaller dtype or less KV memory"
        )
        self.needed = needed
        self.free = free
        self.permanent = needed > total


class RankError(WorkerError):
    """The ranks of the worker cannot go on together: one has ended, is not there in time, or has other weights."""


class OffloadError(WorkerError):
    """A block could not be written to disk or read back."""


class StuckError(OffloadError):
    """Blocks are on their way for too long, and their memory may still be written: it must not be used again."""


class TransferError(WorkerError):
    """The KV transport failed: a write, a connection or a notification."""


class IncompatiblePeerError(TransferError):
    """The compatibility hashes differ; the message has both."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__(
            f"peer has KV compatibility hash {theirs!r}, this worker has {ours!r}; "
            "both must run the same model, revision, dtype and block size"
        )


class RequestError(WorkerError):
    """A request cannot be served as asked.

    Args:
        message: a sentence for the client.
        status: HTTP status.
        param: the field at fault, when there is one.
        code: OpenAI's machine-readable code, when there is one.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
