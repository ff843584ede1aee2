"""Text that remembers which of its characters a client wrote.

A chat template joins its own words with the client's. `Traced` strings carry one byte per character through every
operation a template can do; where an operation's result cannot be attributed, all of it counts as the client's, so a
control token that a client spelled can lose its meaning but never gain one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, Self, SupportsIndex

_HOUSE = b"\x00"
_CLIENT = b"\x01"


class Traced(str):
    """A string and, for each character, whether the client wrote it (1) or not (0), in `mask`.

    Its methods are str's own; those that only cut or join keep the trace exactly.
    """

    __slots__ = ("mask",)
    mask: bytes

    def __new__(cls, text: str, mask: bytes | None = None) -> Self:
        """Return `text` traced by `mask`; without one all of it is the client's (jinja2's formatter asks so)."""
        traced = super().__new__(cls, text)
        traced.mask = _CLIENT * len(text) if mask is None else mask
        return traced

    @property
    def plain(self) -> str:
        """The text alone."""
        return str.__str__(self)

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return join("", (self, other))

    def __radd__(self, other: str) -> str:
        return join("", (other, self))

    def __mul__(self, times: SupportsIndex) -> str:
        return Traced(str.__mul__(self, times), self.mask * times)

    __rmul__ = __mul__

    def __mod__(self, values: object) -> str:
        return Traced(str.__mod__(self, values))

    def __rmod__(self, other: str) -> str:
        return Traced(str.__mod__(other, self))

    def __format__(self, spec: str) -> str:
        return Traced(str.__format__(self, spec)) if spec else self

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        place = key if isinstance(key, slice) else slice(key, None if key.__index__() == -1 else key.__index__() + 1)
        return Traced(str.__getitem__(self, key), self.mask[place])

    def lstrip(self, chars: str | None = None, /) -> str:  # noqa: D102
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:  # noqa: D102
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None, /) -> str:  # noqa: D102
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> str:  # noqa: D102
        return self[len(self) - len(str.removeprefix(self, prefix)) :]

    def removesuffix(self, suffix: str, /) -> str:  # noqa: D102
        return self[: len(str.removesuffix(self, suffix))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:  # noqa: D102
        return self._located(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:  # noqa: D102
        return self._located(str.rsplit(self, sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:  # noqa: D102, FBT001, FBT002
        return self._located(str.splitlines(self, keepends), None)

    def partition(self, sep: str, /) -> tuple[str, str, str]:  # noqa: D102
        head, found, tail = self._located(list(str.partition(self, sep)), "")
        return head, found, tail

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:  # noqa: D102
        head, found, tail = self._located(list(str.rpartition(self, sep)), "")
        return head, found, tail

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:  # noqa: D102
        if old == "":
            return Traced(str.replace(self, old, new, count))
        return join(new, self.split(old, count))

    def join(self, parts: Iterable[str], /) -> str:  # noqa: D102
        return join(self, parts)

    def _located(self, parts: list[str], sep: str | None) -> list[str]:
        """Return `parts`, cut from this string in order with `sep` between (None: any white space), traced."""
        located: list[str] = []
        at = 0
        for part in parts:
            at = self.find(part, at) if sep is None else at
            located.append(self[at : at + len(part)])
            at += len(part) + len(sep or "")
        return located


def _unattributed(name: str) -> Callable[..., str]:
    """Return str's method for Traced: the mask where the length is kept, else all of the result is the client's."""
    original: Callable[..., str] = getattr(str, name)

    @wraps(original)
    def method(self: Traced, *args: object, **kwargs: object) -> str:
        result = original(self, *args, **kwargs)
        return Traced(result, self.mask) if len(result) == len(self) else Traced(result)

    return method


for _name in ("capitalize", "casefold", "lower", "swapcase", "title", "upper"):
    setattr(Traced, _name, _unattributed(_name))


def _all_client(name: str) -> Callable[..., str]:
    original: Callable[..., str] = getattr(str, name)

    @wraps(original)
    def method(self: Traced, *args: object, **kwargs: object) -> str:
        return Traced(original(self, *args, **kwargs))

    return method


for _name in ("center", "expandtabs", "format", "format_map", "ljust", "rjust", "translate", "zfill"):
    setattr(Traced, _name, _all_client(_name))


def mask_of(text: str) -> bytes:
    """Return one byte per character; text that is not traced is the house's own."""
    return text.mask if isinstance(text, Traced) else _HOUSE * len(text)


def join(separator: str, parts: Iterable[object]) -> Traced:
    """Return what `separator.join` returns, traced; other objects join as `str` shows them."""
    texts = [shown(part) for part in parts]
    return Traced(str.join(separator, texts), mask_of(separator).join(map(mask_of, texts)))


def shown(value: object) -> str:
    """Return the value as a template writes it; an object that may hold client text shows as the client's."""
    if isinstance(value, str):
        return value
    return Traced(str(value)) if holds_client_text(value) else str(value)


def client_data(value: object) -> object:
    """Return a copy of JSON-like data with every string, keys included, traced as the client's."""
    if isinstance(value, str):
        return Traced(value)
    if isinstance(value, Mapping):
        return {client_data(key): client_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [client_data(item) for item in value]
    return value


def holds_client_text(value: object) -> bool:
    """Return whether a string of the client's is, or may be, anywhere in `value`."""
    if isinstance(value, str):
        return isinstance(value, Traced) and 1 in value.mask
    if isinstance(value, Mapping):
        return any(holds_client_text(key) or holds_client_text(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(map(holds_client_text, value))
    return not isinstance(value, int | float | None)


def attributed(function: Callable[..., Any], *, skipped: int) -> Callable[..., Any]:
    """Return `function` such that text it makes of client text is the client's, however it lost its trace.

    Args:
        function: a filter.
        skipped: how many leading arguments are the template engine's own.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return claimed(function(*args, **kwargs), (*args[skipped:], *kwargs.values()))

    return call


def claimed(result: Any, sources: tuple[object, ...]) -> Any:
    """Return `result`, as the client's where it is untraced text made from sources that hold client text."""
    untraced = isinstance(result, str) and not isinstance(result, Traced)
    return Traced(result) if untraced and any(map(holds_client_text, sources)) else result
