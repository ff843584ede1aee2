"""The messages of KEDA's external scaler, in protobuf's encoding.

They are six, of texts, numbers and each other. Written by hand they need neither protobuf's runtime nor generated code,
which would be ten times as much as what is here; a test holds them to a real client's. Fields that are not known are
skipped, as the encoding demands.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SERVICE: Final = "externalscaler.ExternalScaler"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Reference:
    """`ScaledObjectRef`: whom a call is about."""

    name: str = ""
    namespace: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> "Reference":
        """Return the message in `data`; raise ValueError where there is none."""
        name, namespace, metadata = "", "", {}
        for number, value in _fields(data):
            match number, value:
                case 1, bytes():
                    name = value.decode()
                case 2, bytes():
                    namespace = value.decode()
                case 3, bytes():
                    entry = {key: part for key, part in _fields(value) if isinstance(part, bytes)}
                    metadata[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
        return cls(name, namespace, metadata)

    def encode(self) -> bytes:
        """Return the message."""
        entries = (_bytes(1, key.encode()) + _bytes(2, value.encode()) for key, value in self.metadata.items())
        metadata = b"".join(_tag(3, _BYTES) + _varint(len(entry)) + entry for entry in entries)
        return _bytes(1, self.name.encode()) + _bytes(2, self.namespace.encode()) + metadata


@dataclass(frozen=True, slots=True)
class MetricsQuestion:
    """`GetMetricsRequest`: one metric of one ScaledObject."""

    reference: Reference = field(default_factory=Reference)
    metric: str = ""

    @classmethod
    def decode(cls, data: bytes) -> "MetricsQuestion":
        """Return the message in `data`; raise ValueError where there is none."""
        reference, metric = Reference(), ""
        for number, value in _fields(data):
            match number, value:
                case 1, bytes():
                    reference = Reference.decode(value)
                case 2, bytes():
                    metric = value.decode()
        return cls(reference, metric)

    def encode(self) -> bytes:
        """Return the message."""
        return _bytes(1, self.reference.encode()) + _bytes(2, self.metric.encode())


def activity(*, is_active: bool) -> bytes:
    """Return an `IsActiveResponse`."""
    return _tag(1, _VARINT) + b"\x01" if is_active else b""


def metric_spec(metric: str, target: int) -> bytes:
    """Return a `GetMetricSpecResponse` of one metric: its name, and what one worker may have of it."""
    return _bytes(1, _metric(metric, target))


def metric_value(metric: str, value: int) -> bytes:
    """Return a `GetMetricsResponse` of one metric."""
    return _bytes(1, _metric(metric, value))


def _metric(name: str, value: int) -> bytes:
    """Return a `MetricSpec` or a `MetricValue`, which are alike; the first number is for older clients."""
    whole = _tag(2, _VARINT) + _varint(value) if value else b""
    fraction = _tag(3, _FIXED64) + struct.pack("<d", value) if value else b""
    return _bytes(1, name.encode()) + whole + fraction


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field; raise ValueError where the message is cut off or malformed."""
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        match tag & 7:
            case 0:
                value, place = _read_varint(data, place)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, place = _read_varint(data, place)
            case 5:
                size = 4
            case other:
                raise ValueError(f"a field has wire type {other}; known are 0, 1, 2 and 5")
        if place + size > len(data):
            raise ValueError(f"the message ends {place + size - len(data)} bytes too early")
        yield tag >> 3, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("a number in the message has no end")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _bytes(number: int, value: bytes) -> bytes:
    """Return a field of text or of another message; an empty one is left out, as the encoding has it."""
    return _tag(number, _BYTES) + _varint(len(value)) + value if value else b""
