"""The head of a GGUF file: its key-values, and where its tensors lie.

The `gguf` package reads each string of a vocabulary as numpy arrays, which takes seconds for a vocabulary of 50,000
tokens; both processes of a worker wait for it, so this reads plain values in one pass.
"""

import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace_worker.errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING = 8
_ARRAY = 9
_SCALARS: Mapping[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place in the file."""

    name: str
    shape: tuple[int, ...]
    """As GGUF has it: the contiguous dimension first, so a matrix is (inputs, outputs)."""
    kind: int
    """The number of its GGML type."""
    offset: int
    """Bytes from the beginning of the file."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of the file says."""

    values: dict[str, object]
    tensors: tuple[StoredTensor, ...]


def read_header(path: Path, wanted: Callable[[str], bool]) -> Header:
    """Return the wanted key-values (arrays as lists) and all tensors; raise ModelError where it is no GGUF file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).read(wanted)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ModelError(
            f"{path} is truncated: it ends or breaks inside its GGUF header ({error}); fetch it again"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is no GGUF file, or truncated: {error}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


class _Reader:
    """Walks the header once; each method moves `_at` past what it returns."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def read(self, wanted: Callable[[str], bool]) -> Header:
        magic = self._data[:4]
        if magic != _MAGIC:
            raise ValueError(f"it starts with {magic!r}, expected {_MAGIC!r}")
        self._at = 4
        version = self._number(_U32)
        if version not in _VERSIONS:
            raise ValueError(f"its version is {version}, expected one of {_VERSIONS} (little-endian)")
        num_tensors = self._number(_U64)
        found: dict[str, object] = {}
        alignment = _DEFAULT_ALIGNMENT
        for _ in range(self._number(_U64)):
            key = self._string()
            kind = self._number(_U32)
            if key == "general.alignment":
                alignment = found[key] = self._number(_U32)
            elif wanted(key):
                found[key] = self._value(kind)
            else:
                self._skip(kind)
        return Header(found, self._tensors(num_tensors, alignment))

    def _tensors(self, count: int, alignment: int) -> tuple[StoredTensor, ...]:
        infos = [self._tensor() for _ in range(count)]
        start = -(-self._at // alignment) * alignment
        return tuple(StoredTensor(name, shape, kind, start + offset) for name, shape, kind, offset in infos)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        shape = tuple(self._number(_U64) for _ in range(self._number(_U32)))
        return name, shape, self._number(_U32), self._number(_U64)

    def _number(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return int(value)

    def _bytes(self) -> bytes:
        size = self._number(_U64)
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise IndexError(f"a string of {size} bytes starts at byte {start} of {len(self._data)}")
        return self._data[start : self._at]

    def _string(self) -> str:
        return self._bytes().decode("utf-8")

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        layout = _scalar(kind)
        (value,) = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return value

    def _array(self) -> list[object]:
        kind, count = self._number(_U32), self._number(_U64)
        if count > len(self._data):
            raise IndexError(f"an array of {count} items does not fit {len(self._data)} bytes")
        if kind in (_STRING, _ARRAY):
            return [self._value(kind) for _ in range(count)]
        layout = _scalar(kind)
        values = struct.unpack_from(f"<{count}{layout.format[1:]}", self._data, self._at)
        self._at += layout.size * count
        return list(values)

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._bytes()
        elif kind == _ARRAY:
            self._array()
        else:
            self._at += _scalar(kind).size


def _scalar(kind: int) -> struct.Struct:
    layout = _SCALARS.get(kind)
    if layout is None:
        raise ValueError(f"a value has type {kind}, expected 0 to 12")
    return layout
